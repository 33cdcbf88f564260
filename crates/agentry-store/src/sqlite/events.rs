//! [`EventStore`] on SQLite: an event and its tasks, once.

use agentry_core::event::Event;
use async_trait::async_trait;

use super::SqliteStore;
use super::accept::{self, Arrival};
use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, json_at, sql_limit, to_json};
use crate::{EventAccepted, EventStore, NewTask, Refused, StoreError};

fn accept_event(db: &mut Db, event: &Event, body: &str, tasks: &[Arrival]) -> Result<EventAccepted, Failure> {
    if db.sql("SELECT 1 FROM events WHERE source = ?1 AND id = ?2")?.exists((&event.source, &event.id))? {
        return Ok(EventAccepted::Duplicate);
    }
    if !accept::has_room(db, tasks.len()) {
        return Err(accept::full(db).into());
    }
    // An event may carry a time long ago; it is forgotten by when it came, so that it stays deduplicated.
    let came = tasks.iter().map(|task| task.new.task.created_at).max().map_or(event.time, |at| at.max(event.time));
    db.sql("INSERT INTO events (source, id, at, body) VALUES (?1, ?2, ?3, ?4)")?.execute((
        &event.source,
        &event.id,
        came.0,
        body,
    ))?;
    for task in tasks {
        match accept::accept(db, task)? {
            Ok(_) | Err(Refused::KeyReused(_)) => {}
            Err(Refused::Store(error)) => return Err(Failure::Data(error.to_string())),
        }
    }
    Ok(EventAccepted::New)
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn accept_event(&self, event: &Event, tasks: Vec<NewTask>) -> Result<EventAccepted, StoreError> {
        let body = to_json(event).map_err(|failure| failure.to_store_error())?;
        let (event, tasks) = (event.clone(), Arrival::all(tasks)?);
        self.write(1 + tasks.len(), move |db| accept_event(db, &event, &body, &tasks)).await
    }

    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |conn| {
            let mut statement = conn.prepare_cached("SELECT body FROM events ORDER BY seq DESC LIMIT ?1")?;
            collect(&mut statement, [sql_limit(limit)], |row| json_at(row, 0))
        })
        .await
    }
}
