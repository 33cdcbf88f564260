//! Tasks at the door: durable, bounded, once per idempotency key.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use agentry_core::id::TaskId;
use agentry_core::task::{IdempotencyKey, Task};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use deadpool_postgres::GenericClient;

use super::batch::Kind;
use super::failure::Failure;
use super::pool::{Db, Tries, Tx};
use super::rows::{Params, SqlId, query, rows};
use super::text;
use crate::sql::arrival::Arrival;
use crate::sql::columns::Columns;
use crate::{Accepted, Refused};

/// How long idempotency keys are kept, in microseconds (the port: 24 h).
const KEY_LIFE_US: i64 = 24 * 3_600 * 1_000_000;

/// What follows from new rows `t`: their hot rows and the count.
macro_rules! insert_rest {
    () => {
        " o AS (
             INSERT INTO open_tasks (id, ready_at, mode, rank, lane, agent, session)
             SELECT id, ready_at, mode, rank, (ready_at > created_at)::integer, agent, session FROM t
         ), counted AS (
             INSERT INTO counters AS c (pid, queued, running, waiting)
             SELECT pg_backend_pid(), count(*), 0, 0 FROM t HAVING count(*) > 0
             ON CONFLICT (pid) DO UPDATE SET queued = c.queued + excluded.queued
         ) SELECT id FROM t"
    };
}

/// Inserts tasks without keys. Identifiers that are known come back missing.
const INSERT: &str = concat!(
    "WITH t AS (
         INSERT INTO tasks (id, created_at, ready_at, mode, rank, agent, session, body)
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::smallint[], $5::smallint[], $6::text[],
             $7::text[], $8::text[])
         ON CONFLICT (id) DO NOTHING
         RETURNING id, created_at, ready_at, mode, rank, agent, session
     ),",
    insert_rest!()
);

/// The same with keys: only tasks whose key is new (or older than its life) are inserted. Keys are locked in order.
const INSERT_KEYED: &str = concat!(
    "WITH input AS (
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::smallint[], $5::smallint[], $6::text[],
             $7::text[], $8::text[], $9::text[], $10::bigint[])
             AS u (id, created_at, ready_at, mode, rank, agent, session, body, key, fingerprint)
     ), k AS (
         INSERT INTO idempotency AS kept (key, task, fingerprint, created_at)
         SELECT key, id, fingerprint, created_at FROM input WHERE key IS NOT NULL ORDER BY key
         ON CONFLICT (key) DO UPDATE
             SET task = excluded.task, fingerprint = excluded.fingerprint, created_at = excluded.created_at
             WHERE excluded.created_at - kept.created_at >= $11
         RETURNING key
     ), t AS (
         INSERT INTO tasks (id, created_at, ready_at, mode, rank, agent, session, body)
         SELECT id, created_at, ready_at, mode, rank, agent, session, body FROM input
         WHERE key IS NULL OR key IN (SELECT key FROM k)
         ON CONFLICT (id) DO NOTHING
         RETURNING id, created_at, ready_at, mode, rank, agent, session
     ),",
    insert_rest!()
);

fn key_of(arrival: &Arrival) -> Option<&str> {
    arrival.task.idempotency.as_ref().map(|idempotency| idempotency.key.as_str())
}

type Answers = Vec<Result<Accepted, Refused>>;

/// Batches of acceptance; an item is what one caller brought.
pub(super) enum Accepts {}

#[async_trait]
impl Kind for Accepts {
    type Item = Vec<Arrival>;
    type Answer = Answers;
    type Key = ();

    fn rows(item: &Self::Item) -> usize {
        item.len()
    }

    fn key(_: &Self::Item) -> Option<()> {
        None
    }

    async fn run(db: &Db, items: &[Self::Item], tries: Tries) -> Result<Vec<Answers>, Failure> {
        let conn = db.batch_conn().await?;
        db.room.refresh(&conn).await?;
        let all: Vec<&Arrival> = items.iter().flatten().collect();
        let room = usize::try_from(db.room.left()).unwrap_or(usize::MAX).min(all.len());
        let mut answers = accept(db, &conn, &all[..room], tries).await?;
        answers.resize_with(all.len(), || Err(Refused::Store(db.room.full())));
        let mut answers = answers.into_iter();
        Ok(items.iter().map(|item| answers.by_ref().take(item.len()).collect()).collect())
    }
}

/// Accepts tasks within a transaction of the caller, who has checked that there is room.
pub(super) async fn accept_all(db: &Db, tx: &Tx<'_>, arrivals: &[&Arrival]) -> Result<Answers, Failure> {
    accept(db, tx, arrivals, Tries::default()).await
}

/// Accepts tasks, each by itself. Tasks that share a key are inserted one after the other, so that the first one wins.
async fn accept(db: &Db, client: &impl GenericClient, arrivals: &[&Arrival], tries: Tries) -> Result<Answers, Failure> {
    let mut answers: Vec<Option<Result<Accepted, Refused>>> = arrivals.iter().map(|_| None).collect();
    loop {
        let (mut keys, mut ids) = (HashSet::new(), HashSet::new());
        let round: Vec<usize> = (0..arrivals.len())
            .filter(|&at| answers[at].is_none())
            .filter(|&at| key_of(arrivals[at]).is_none_or(|key| keys.insert(key)) && ids.insert(arrivals[at].task.id))
            .collect();
        if round.is_empty() {
            break;
        }
        let these: Vec<&Arrival> = round.iter().map(|&at| arrivals[at]).collect();
        let inserted = insert(client, &these).await?;
        db.room.moved(i64::try_from(inserted.len()).unwrap_or(0));
        for &at in &round {
            let id = arrivals[at].task.id;
            if inserted.contains(&id) {
                answers[at] = Some(Ok(Accepted::New));
            } else if key_of(arrivals[at]).is_none() {
                answers[at] = Some(Ok(known(id, id, tries)));
            }
        }
        answer_keyed(client, arrivals, &mut answers, tries).await?;
    }
    Ok(answers.into_iter().flatten().collect())
}

/// What a task hears whose id or key is known as `of`. After a try whose answer was lost, its own id is its own work.
fn known(own: TaskId, of: TaskId, tries: Tries) -> Accepted {
    if own == of && tries.maybe_done { Accepted::New } else { Accepted::Duplicate(of) }
}

/// Inserts tasks whose ids and keys differ. Returns the ids of those that are new.
async fn insert(client: &impl GenericClient, arrivals: &[&Arrival]) -> Result<HashSet<TaskId>, Failure> {
    let tasks = || arrivals.iter().map(|arrival| &*arrival.task);
    let ids: Vec<SqlId> = tasks().map(|task| SqlId(*task.id.as_bytes())).collect();
    let created: Vec<i64> = tasks().map(|task| task.created_at.0).collect();
    let ready: Vec<i64> = tasks().map(|task| task.not_before.unwrap_or(task.created_at).0).collect();
    let modes: Vec<i16> = tasks().map(|task| i16::from(task.mode as u8)).collect();
    let ranks: Vec<i16> = tasks().map(|task| 2 - i16::from(task.priority as u8)).collect();
    let agents: Vec<&str> = tasks().map(|task| task.agent.as_str()).collect();
    let session = |task: &Task| task.session.as_ref().map(|session| text::escape(session.as_str()).into_owned());
    let sessions: Vec<Option<String>> = tasks().map(session).collect();
    let bodies: Vec<&str> = arrivals.iter().map(|arrival| arrival.body.as_str()).collect();
    let rows = if arrivals.iter().all(|arrival| arrival.task.idempotency.is_none()) {
        query(client, INSERT, &[&ids, &created, &ready, &modes, &ranks, &agents, &sessions, &bodies]).await?
    } else {
        let keys: Vec<Option<Cow<'_, str>>> =
            arrivals.iter().map(|arrival| key_of(arrival).map(text::escape)).collect();
        let fingerprints: Vec<Option<i64>> =
            tasks().map(|task| task.idempotency.as_ref().map(|key| key.fingerprint.cast_signed())).collect();
        let params: Params<'_> =
            &[&ids, &created, &ready, &modes, &ranks, &agents, &sessions, &bodies, &keys, &fingerprints, &KEY_LIFE_US];
        query(client, INSERT_KEYED, params).await?
    };
    rows.iter().map(|row| row.id(0)).collect()
}

/// Answers tasks whose key is known. One that still is not (its key was older than its life when another task of the
/// same batch came first) stays without an answer and is tried again.
async fn answer_keyed(
    client: &impl GenericClient,
    arrivals: &[&Arrival],
    answers: &mut [Option<Result<Accepted, Refused>>],
    tries: Tries,
) -> Result<(), Failure> {
    let open = |at: &usize| answers[*at].is_none();
    let keys: Vec<&str> = (0..arrivals.len()).filter(open).filter_map(|at| key_of(arrivals[at])).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let kept = kept_keys(client, &keys).await?;
    for (arrival, answer) in arrivals.iter().zip(answers).filter(|(_, answer)| answer.is_none()) {
        let Some(IdempotencyKey { key, fingerprint }) = &arrival.task.idempotency else { continue };
        let young = |known_as: &&Key| known_as.is_young(arrival.task.created_at);
        let Some(known_as) = kept.get(key.as_str()).filter(young) else { continue };
        *answer = Some(if known_as.fingerprint == fingerprint.cast_signed() {
            Ok(known(arrival.task.id, known_as.task, tries))
        } else {
            Err(Refused::KeyReused(known_as.task))
        });
    }
    Ok(())
}

struct Key {
    task: TaskId,
    fingerprint: i64,
    created_at: Timestamp,
}

impl Key {
    fn is_young(&self, now: Timestamp) -> bool {
        now.0.saturating_sub(self.created_at.0) < KEY_LIFE_US
    }
}

/// Returns the task and fingerprint of a key that is not older than 24 h.
pub(super) async fn task_of_key(db: &Db, key: &str, now: Timestamp) -> Result<Option<(TaskId, u64)>, Failure> {
    let kept = kept_keys(&db.conn().await?, &[key]).await?;
    let young = kept.into_values().find(|kept| kept.is_young(now));
    Ok(young.map(|kept| (kept.task, kept.fingerprint.cast_unsigned())))
}

async fn kept_keys(client: &impl GenericClient, keys: &[&str]) -> Result<HashMap<String, Key>, Failure> {
    let sql = "SELECT key, task, fingerprint, created_at FROM idempotency WHERE key = ANY($1::text[])";
    let keys: Vec<Cow<'_, str>> = keys.iter().map(|key| text::escape(key)).collect();
    let kept = rows(client, sql, &[&keys], |row| {
        Ok((row.text(0)?, Key { task: row.id(1)?, fingerprint: row.number(2)?, created_at: row.time(3)? }))
    })
    .await?;
    Ok(kept.into_iter().collect())
}
