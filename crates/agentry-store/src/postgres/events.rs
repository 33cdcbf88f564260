//! [`EventStore`] on PostgreSQL: an event and its tasks, once. Events are written in batches.

use std::collections::HashSet;

use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::outbox::OutboxMessage;
use async_trait::async_trait;

use super::accept;
use super::batch::BatchKind;
use super::failure::Failure;
use super::pool::{Db, Tries, Tx};
use super::rows::{Params, SqlId, row, rows};
use super::{PostgresStore, outbox, text};
use crate::sql::columns::Columns;
use crate::sql::encode::{EncodedEvent, EncodedTask};
use crate::sql::limits::sql_limit;
use crate::{AcceptError, EventAcceptance, EventStore, IncomingEvent, StoreError};

/// Waits for another process that inserts the same event. Events are inserted in one order, so that two processes with
/// the same events do not deadlock.
const INSERT: &str = "
    INSERT INTO events (source, id, at, body)
    SELECT source, id, at, body FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
        AS i (source, id, at, body)
    ORDER BY source, id
    ON CONFLICT (source, id) DO NOTHING
    RETURNING source, id";

const KNOWN: &str = "
    SELECT e.source, e.id FROM unnest($1::text[], $2::text[]) AS i (source, id)
        CROSS JOIN LATERAL (SELECT source, id FROM events WHERE source = i.source AND id = i.id LIMIT 1) e";

/// Source and id of an event as stored.
type Key = (String, String);

/// Batches of events; each is accepted or refused by itself.
pub(super) enum EventBatch {}

#[async_trait]
impl BatchKind for EventBatch {
    type Item = EncodedEvent;
    type Answer = Result<EventAcceptance, StoreError>;
    type Key = Key;

    fn rows(item: &EncodedEvent) -> usize {
        1 + item.tasks.len()
    }

    fn key(item: &EncodedEvent) -> Option<Key> {
        Some(item.key.clone())
    }

    async fn run(db: &Db, items: &[EncodedEvent], tries: Tries) -> Result<Vec<Self::Answer>, Failure> {
        let mut conn = db.batch_conn().await?;
        let tx = conn.transaction().await?;
        let stale = stale(&tx, items).await?;
        let mut fitting = fitting(db, &tx, items).await?;
        fitting.retain(|item| !stale.contains(&item.key));
        let new = insert(&tx, &fitting).await?;
        let tasks: Vec<&EncodedTask> =
            fitting.iter().filter(|item| new.contains(&item.key)).flat_map(|item| &item.tasks).collect();
        if !tasks.is_empty() {
            for accepted in accept::accept_all(db, &tx, &tasks).await? {
                match accepted {
                    Ok(_) | Err(AcceptError::KeyReused(_)) => {}
                    Err(AcceptError::Store(error)) => return Err(error.into()),
                }
            }
        }
        let messages: Vec<OutboxMessage> =
            fitting.iter().filter(|item| new.contains(&item.key)).filter_map(|item| item.outbox.clone()).collect();
        outbox::insert_all(&tx, &messages).await?;
        let own = if tries.maybe_done { own(&tx, items).await? } else { HashSet::new() };
        tx.commit().await?;
        let tried: HashSet<&Key> = fitting.iter().map(|item| &item.key).collect();
        let answer = |item: &EncodedEvent| {
            if stale.contains(&item.key) {
                Ok(EventAcceptance::FleetChanged)
            } else if !tried.contains(&item.key) {
                Err(db.room.full())
            } else if new.contains(&item.key) || item.tasks.first().is_some_and(|task| own.contains(&task.task.id)) {
                Ok(EventAcceptance::New)
            } else {
                Ok(EventAcceptance::Duplicate)
            }
        };
        Ok(items.iter().map(answer).collect())
    }
}

/// Returns new events whose subscribers were looked up in another fleet revision than the current one.
async fn stale(tx: &Tx<'_>, items: &[EncodedEvent]) -> Result<HashSet<Key>, Failure> {
    let asking: Vec<&EncodedEvent> = items.iter().filter(|item| item.fleet_revision != 0).collect();
    if asking.is_empty() {
        return Ok(HashSet::new());
    }
    let revision = row(tx, "SELECT revision FROM fleet_revision", &[], |row| row.count(0)).await?.unwrap_or(0);
    let stale: Vec<&EncodedEvent> = asking.into_iter().filter(|item| item.fleet_revision != revision).collect();
    if stale.is_empty() {
        return Ok(HashSet::new());
    }
    let sources: Vec<&str> = stale.iter().map(|item| item.key.0.as_str()).collect();
    let ids: Vec<&str> = stale.iter().map(|item| item.key.1.as_str()).collect();
    // A known event is a duplicate, whatever the fleet is.
    let known = keys(tx, KNOWN, &[&sources, &ids]).await?;
    Ok(stale.into_iter().map(|item| item.key.clone()).filter(|key| !known.contains(key)).collect())
}

/// Returns the events whose tasks the queue can take, one after the other; known ones need no room.
async fn fitting<'a>(db: &Db, tx: &Tx<'_>, items: &'a [EncodedEvent]) -> Result<Vec<&'a EncodedEvent>, Failure> {
    db.room.refresh(tx).await?;
    let mut room = db.room.left();
    if items.iter().map(|item| item.tasks.len() as u64).sum::<u64>() <= room {
        return Ok(items.iter().collect());
    }
    let columns = |part: fn(&Key) -> &str| items.iter().map(|item| part(&item.key)).collect::<Vec<_>>();
    let (sources, ids) = (columns(|key| &key.0), columns(|key| &key.1));
    let known = keys(tx, KNOWN, &[&sources, &ids]).await?;
    let fits = |item: &&EncodedEvent| {
        let needed = if known.contains(&item.key) { 0 } else { item.tasks.len() as u64 };
        let fits = needed <= room;
        room -= if fits { needed } else { 0 };
        fits
    };
    Ok(items.iter().filter(fits).collect())
}

/// Inserts events. Returns those that are new.
async fn insert(tx: &Tx<'_>, items: &[&EncodedEvent]) -> Result<HashSet<Key>, Failure> {
    let sources: Vec<&str> = items.iter().map(|item| item.key.0.as_str()).collect();
    let ids: Vec<&str> = items.iter().map(|item| item.key.1.as_str()).collect();
    let ats: Vec<i64> = items.iter().map(|item| item.at.0).collect();
    let bodies: Vec<&str> = items.iter().map(|item| item.body.as_str()).collect();
    keys(tx, INSERT, &[&sources, &ids, &ats, &bodies]).await
}

async fn keys(tx: &Tx<'_>, sql: &str, params: Params<'_>) -> Result<HashSet<Key>, Failure> {
    let found = rows(tx, sql, params, |row| Ok((row.plain(0)?.to_owned(), row.plain(1)?.to_owned()))).await?;
    Ok(found.into_iter().collect())
}

/// Returns existing tasks among the first ones of each event: an existing event with the caller's own task was inserted
/// by an earlier try, whose answer was lost.
async fn own(tx: &Tx<'_>, items: &[EncodedEvent]) -> Result<HashSet<TaskId>, Failure> {
    let firsts = items.iter().filter_map(|item| item.tasks.first());
    let ids: Vec<SqlId> = firsts.map(|task| SqlId(*task.task.id.as_bytes())).collect();
    let found = rows(tx, "SELECT id FROM tasks WHERE id = ANY($1)", &[&ids], |row| row.id(0)).await?;
    Ok(found.into_iter().collect())
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn accept_event(&self, incoming: IncomingEvent) -> Result<EventAcceptance, StoreError> {
        let incoming = EncodedEvent::new(incoming, |text| text::escape(text).into_owned())?;
        self.batches.events.call(incoming).await?
    }

    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT body FROM events ORDER BY seq DESC LIMIT $1";
        self.db.rows(sql, &[&sql_limit(limit)], |row| row.json(0)).await
    }
}
