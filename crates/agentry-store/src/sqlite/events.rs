//! [`EventStore`] on SQLite: an event and its tasks, once.

use agentry_core::event::Event;
use agentry_core::outbox::OutboxMessage;
use async_trait::async_trait;

use super::accept;
use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, json_at, sql_limit, to_json};
use super::{SqliteStore, deployment, outbox};
use crate::arrival::Arrival;
use crate::{EventAccepted, EventStore, IncomingEvent, Refused, StoreError};

/// An event with its columns as they are kept; serialised by the caller, not by the writer.
struct Incoming {
    event: Event,
    body: String,
    tasks: Vec<Arrival>,
    outbox: Option<OutboxMessage>,
    fleet_revision: u64,
}

fn accept_event(db: &mut Db, incoming: &Incoming) -> Result<EventAccepted, Failure> {
    let Incoming { event, body, tasks, outbox, fleet_revision } = incoming;
    if db.sql("SELECT 1 FROM events WHERE source = ?1 AND id = ?2")?.exists((&event.source, &event.id))? {
        return Ok(EventAccepted::Duplicate);
    }
    if *fleet_revision != 0 && deployment::revision(&db.conn)? != *fleet_revision {
        return Ok(EventAccepted::FleetChanged);
    }
    if !accept::has_room(db, tasks.len()) {
        return Err(accept::full(db).into());
    }
    // An event may carry a time long ago; it is forgotten by when it came, so that it stays deduplicated.
    let came = tasks.iter().map(|task| task.task.created_at).max().map_or(event.time, |at| at.max(event.time));
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
    if let Some(message) = outbox {
        outbox::insert(db, message, message.created_at)?;
    }
    Ok(EventAccepted::New)
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn accept_event(&self, incoming: IncomingEvent) -> Result<EventAccepted, StoreError> {
        let IncomingEvent { event, tasks, outbox, fleet_revision } = incoming;
        let body = to_json(&event).map_err(|failure| failure.to_store_error())?;
        let incoming = Incoming { event, body, tasks: Arrival::all(tasks)?, outbox, fleet_revision };
        self.write(2 + incoming.tasks.len(), move |db| accept_event(db, &incoming)).await
    }

    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |conn| {
            let mut statement = conn.prepare_cached("SELECT body FROM events ORDER BY seq DESC LIMIT ?1")?;
            collect(&mut statement, [sql_limit(limit)], |row| json_at(row, 0))
        })
        .await
    }
}
