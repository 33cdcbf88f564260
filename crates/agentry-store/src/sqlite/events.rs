//! [`EventStore`] on SQLite: an event and its tasks, once.

use agentry_core::event::Event;
use async_trait::async_trait;

use super::accept;
use super::db::Db;
use super::failure::Failure;
use super::rows::exists;
use super::{SqliteStore, deployment, outbox};
use crate::sql::columns::Columns;
use crate::sql::encode::EncodedEvent;
use crate::sql::limits::sql_limit;
use crate::{AcceptError, EventAcceptance, EventStore, IncomingEvent, StoreError};

fn accept_event(db: &mut Db, incoming: &EncodedEvent) -> Result<EventAcceptance, Failure> {
    let EncodedEvent { key: (source, id), at, body, tasks, outbox, fleet_revision } = incoming;
    if exists(&db.conn, "SELECT 1 FROM events WHERE source = ?1 AND id = ?2", (source, id))? {
        return Ok(EventAcceptance::Duplicate);
    }
    if *fleet_revision != 0 && deployment::revision(&db.conn)? != *fleet_revision {
        return Ok(EventAcceptance::FleetChanged);
    }
    if !accept::has_room(db, tasks.len()) {
        return Err(accept::full(db).into());
    }
    db.execute("INSERT INTO events (source, id, at, body) VALUES (?1, ?2, ?3, ?4)", (source, id, at.0, body))?;
    for task in tasks {
        match accept::accept(db, task)? {
            Ok(_) | Err(AcceptError::KeyReused(_)) => {}
            Err(AcceptError::Store(error)) => return Err(Failure::Data(error.to_string())),
        }
    }
    if let Some(message) = outbox {
        outbox::insert_at(db, message, message.created_at)?;
    }
    Ok(EventAcceptance::New)
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn accept_event(&self, incoming: IncomingEvent) -> Result<EventAcceptance, StoreError> {
        let incoming = EncodedEvent::new(incoming, str::to_owned)?;
        self.write(2 + incoming.tasks.len(), move |db| accept_event(db, &incoming)).await
    }

    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.rows("SELECT body FROM events ORDER BY seq DESC LIMIT ?1", [sql_limit(limit)], |row| row.json(0)).await
    }
}
