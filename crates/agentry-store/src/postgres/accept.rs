//! Acceptance of submissions: durable, bounded, once per idempotency key.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use agentry_core::id::TaskId;
use agentry_core::task::{IdempotencyKey, Task};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use deadpool_postgres::GenericClient;

use super::batch::BatchKind;
use super::failure::Failure;
use super::pool::{Db, Tries, Tx};
use super::rows::{Params, SqlId, query, rows};
use super::text;
use crate::sql::columns::Columns;
use crate::sql::encode::EncodedTask;
use crate::{AcceptError, Acceptance};

/// Retention of idempotency keys in microseconds (24 h by the port).
const KEY_LIFE_US: i64 = 24 * 3_600 * 1_000_000;

/// The tail of an insertion of new rows `t`: their rows in `open_tasks` and the counter.
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

/// Inserts tasks without keys. Existing ids are missing from the result.
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

/// Inserts tasks with keys: only those whose key is new, or expired. Keys are locked in order.
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

fn key_of(submission: &EncodedTask) -> Option<&str> {
    submission.task.idempotency.as_ref().map(|idempotency| idempotency.key.as_str())
}

type Answers = Vec<Result<Acceptance, AcceptError>>;

/// Batches of submissions; an item is one caller's.
pub(super) enum AcceptBatch {}

#[async_trait]
impl BatchKind for AcceptBatch {
    type Item = Vec<EncodedTask>;
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
        let all: Vec<&EncodedTask> = items.iter().flatten().collect();
        let room = usize::try_from(db.room.left()).unwrap_or(usize::MAX).min(all.len());
        let mut answers = accept(db, &conn, &all[..room], tries).await?;
        answers.resize_with(all.len(), || Err(AcceptError::Store(db.room.full())));
        let mut answers = answers.into_iter();
        Ok(items.iter().map(|item| answers.by_ref().take(item.len()).collect()).collect())
    }
}

/// Accepts tasks within a transaction of the caller, who has checked that there is room.
pub(super) async fn accept_all(db: &Db, tx: &Tx<'_>, submissions: &[&EncodedTask]) -> Result<Answers, Failure> {
    accept(db, tx, submissions, Tries::default()).await
}

/// Accepts tasks independently of one another. Tasks that share a key are inserted one after the other, so that the
/// first one wins.
async fn accept(
    db: &Db,
    client: &impl GenericClient,
    submissions: &[&EncodedTask],
    tries: Tries,
) -> Result<Answers, Failure> {
    let mut answers: Vec<Option<Result<Acceptance, AcceptError>>> = submissions.iter().map(|_| None).collect();
    loop {
        let (mut keys, mut ids) = (HashSet::new(), HashSet::new());
        let round: Vec<usize> = (0..submissions.len())
            .filter(|&at| answers[at].is_none())
            .filter(|&at| {
                key_of(submissions[at]).is_none_or(|key| keys.insert(key)) && ids.insert(submissions[at].task.id)
            })
            .collect();
        if round.is_empty() {
            break;
        }
        let these: Vec<&EncodedTask> = round.iter().map(|&at| submissions[at]).collect();
        let inserted = insert(client, &these).await?;
        db.room.moved(i64::try_from(inserted.len()).unwrap_or(0));
        for &at in &round {
            let id = submissions[at].task.id;
            if inserted.contains(&id) {
                answers[at] = Some(Ok(Acceptance::New));
            } else if key_of(submissions[at]).is_none() {
                answers[at] = Some(Ok(duplicate_of(id, id, tries)));
            }
        }
        answer_keyed(client, submissions, &mut answers, tries).await?;
    }
    Ok(answers.into_iter().flatten().collect())
}

/// Returns the answer for a task whose id or key exists as `of`. When an earlier try may have succeeded, its own id is
/// its own work.
fn duplicate_of(own: TaskId, of: TaskId, tries: Tries) -> Acceptance {
    if own == of && tries.maybe_done { Acceptance::New } else { Acceptance::Duplicate(of) }
}

/// Inserts tasks whose ids and keys differ. Returns the ids of those that are new.
async fn insert(client: &impl GenericClient, submissions: &[&EncodedTask]) -> Result<HashSet<TaskId>, Failure> {
    let tasks = || submissions.iter().map(|submission| &*submission.task);
    let ids: Vec<SqlId> = tasks().map(|task| SqlId(*task.id.as_bytes())).collect();
    let created: Vec<i64> = tasks().map(|task| task.created_at.0).collect();
    let ready: Vec<i64> = tasks().map(|task| task.not_before.unwrap_or(task.created_at).0).collect();
    let modes: Vec<i16> = tasks().map(|task| i16::from(task.mode as u8)).collect();
    let ranks: Vec<i16> = tasks().map(|task| 2 - i16::from(task.priority as u8)).collect();
    let agents: Vec<&str> = tasks().map(|task| task.agent.as_str()).collect();
    let session = |task: &Task| task.session.as_ref().map(|session| text::escape(session.as_str()).into_owned());
    let sessions: Vec<Option<String>> = tasks().map(session).collect();
    let bodies: Vec<&str> = submissions.iter().map(|submission| submission.body.as_str()).collect();
    let rows = if submissions.iter().all(|submission| submission.task.idempotency.is_none()) {
        query(client, INSERT, &[&ids, &created, &ready, &modes, &ranks, &agents, &sessions, &bodies]).await?
    } else {
        let keys: Vec<Option<Cow<'_, str>>> =
            submissions.iter().map(|submission| key_of(submission).map(text::escape)).collect();
        let fingerprints: Vec<Option<i64>> =
            tasks().map(|task| task.idempotency.as_ref().map(|key| key.fingerprint.cast_signed())).collect();
        let params: Params<'_> =
            &[&ids, &created, &ready, &modes, &ranks, &agents, &sessions, &bodies, &keys, &fingerprints, &KEY_LIFE_US];
        query(client, INSERT_KEYED, params).await?
    };
    rows.iter().map(|row| row.id(0)).collect()
}

/// Answers tasks whose key exists. A key that had expired when another task of the batch came first leaves its task
/// without an answer, to be tried again.
async fn answer_keyed(
    client: &impl GenericClient,
    submissions: &[&EncodedTask],
    answers: &mut [Option<Result<Acceptance, AcceptError>>],
    tries: Tries,
) -> Result<(), Failure> {
    let open = |at: &usize| answers[*at].is_none();
    let keys: Vec<&str> = (0..submissions.len()).filter(open).filter_map(|at| key_of(submissions[at])).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let kept = find_keys(client, &keys).await?;
    for (submission, answer) in submissions.iter().zip(answers).filter(|(_, answer)| answer.is_none()) {
        let Some(IdempotencyKey { key, fingerprint }) = &submission.task.idempotency else { continue };
        let young = |known_as: &&Key| known_as.is_valid(submission.task.created_at);
        let Some(known_as) = kept.get(key.as_str()).filter(young) else { continue };
        *answer = Some(if known_as.fingerprint == fingerprint.cast_signed() {
            Ok(duplicate_of(submission.task.id, known_as.task, tries))
        } else {
            Err(AcceptError::KeyReused(known_as.task))
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
    fn is_valid(&self, now: Timestamp) -> bool {
        now.0.saturating_sub(self.created_at.0) < KEY_LIFE_US
    }
}

/// Returns the task and fingerprint of a key that has not expired.
pub(super) async fn task_of_key(db: &Db, key: &str, now: Timestamp) -> Result<Option<(TaskId, u64)>, Failure> {
    let kept = find_keys(&db.conn().await?, &[key]).await?;
    let young = kept.into_values().find(|kept| kept.is_valid(now));
    Ok(young.map(|kept| (kept.task, kept.fingerprint.cast_unsigned())))
}

async fn find_keys(client: &impl GenericClient, keys: &[&str]) -> Result<HashMap<String, Key>, Failure> {
    let sql = "SELECT key, task, fingerprint, created_at FROM idempotency WHERE key = ANY($1::text[])";
    let keys: Vec<Cow<'_, str>> = keys.iter().map(|key| text::escape(key)).collect();
    let kept = rows(client, sql, &[&keys], |row| {
        Ok((row.text(0)?, Key { task: row.id(1)?, fingerprint: row.number(2)?, created_at: row.time(3)? }))
    })
    .await?;
    Ok(kept.into_iter().collect())
}
