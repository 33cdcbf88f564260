//! Session claims, and turns of single writes.
//!
//! A claim locks its session first and reads the inbox then, so that a claimer that finds it empty and a task that
//! arrives meanwhile cannot miss each other: the second one sees the write of the first.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_core::id::WorkerId;
use agentry_core::session::SessionId;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use tokio_postgres::Row;

use super::batch::BatchKind;
use super::claim::{claimed, count_taken};
use super::failure::Failure;
use super::liveness::not_dead;
use super::pool::{Db, Tries, Tx};
use super::rows::{Params, SqlId, execute, only, row};
use super::write::Messages;
use super::{PostgresStore, text};
use crate::sql::columns::Columns;
use crate::sql::decode;
use crate::sql::encode::EncodedWrite;
use crate::sql::limits::signed;
use crate::{SessionClaim, StoreError};

/// Tries when the head of an inbox changes between read and claim: only its end or a cancellation can do that.
const MAX_RACES: u32 = 8;
/// Pause between them, so that the other transaction can commit.
const RACE_PAUSE: Duration = Duration::from_millis(2);

const LOCK: &str = "SELECT 1 FROM sessions WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE";

/// State of the head for its claimer (`what`): 0 empty, 1 busy, 2 waiting, 3 not before, 4 available, 5 taken by an
/// earlier try of the same claim whose answer was lost.
const CLAIM: &str = concat!(
    "WITH input AS MATERIALIZED (
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS i (session, worker, now)
     ), found AS MATERIALIZED (
         SELECT i.*, h.id, h.owner, h.epoch, h.attempt, h.recoveries, h.used_us, h.version, h.ready_at,
             s.fence, s.messages, s.turns, s.summary, s.created_at, s.updated_at,
             CASE
                 WHEN h.id IS NULL THEN 0
                 WHEN $4 AND h.status = 1 AND h.owner = i.worker AND h.claimed_at = i.now THEN 5
                 WHEN s.held AND s.owner <> i.worker AND ",
    not_dead!("w"),
    " THEN 1
                 WHEN h.status = 1 THEN 1
                 WHEN h.status = 2 THEN 2
                 WHEN h.ready_at > i.now THEN 3
                 ELSE 4
             END AS what
         FROM input i
             LEFT JOIN LATERAL (SELECT * FROM open_tasks WHERE session = i.session ORDER BY seq LIMIT 1) h ON true
             LEFT JOIN (SELECT * FROM sessions WHERE id = ANY($1)) s ON s.id = i.session
             LEFT JOIN workers w ON w.id = s.owner
     ), taken AS (
         UPDATE open_tasks t SET status = 1, lane = 0, epoch = t.epoch + 1, owner = f.worker, claimed_at = f.now,
             started_at = CASE WHEN t.epoch = 0 THEN f.now ELSE t.started_at END
         FROM found f
         WHERE t.id = ANY(ARRAY(SELECT id FROM found WHERE what = 4)) AND t.id = f.id AND f.what = 4 AND t.status = 0
         RETURNING t.id, t.epoch, f.session, f.worker, f.now
     ), owned AS (
         INSERT INTO sessions AS s (id, agent, fence, owner, held, messages, turns, created_at, updated_at)
         SELECT session, split_part(session, ':', 1), 1, worker, true, 0, 0, now, now FROM taken ORDER BY session
         ON CONFLICT (id) DO UPDATE SET fence = s.fence + (s.owner IS DISTINCT FROM excluded.owner)::integer,
             owner = excluded.owner, held = true
         RETURNING *
     ), released AS (
         UPDATE sessions SET held = false
         WHERE id = ANY(ARRAY(SELECT session FROM found WHERE what IN (0, 2, 3))) AND held
     ), counted AS (",
    count_taken!(),
    ") SELECT f.id, f.worker, coalesce(t.epoch, f.epoch), f.attempt, f.recoveries, f.used_us, f.version, f.what,
         t.id IS NOT NULL,
         f.ready_at, f.session, coalesce(o.fence, f.fence), coalesce(o.messages, f.messages), coalesce(o.turns, f.turns),
         coalesce(o.summary, f.summary), coalesce(o.created_at, f.created_at), coalesce(o.updated_at, f.updated_at),
         b.body
     FROM found f LEFT JOIN taken t ON t.id = f.id LEFT JOIN owned o ON o.id = f.session
         LEFT JOIN (
             SELECT id, body FROM tasks WHERE id = ANY(ARRAY(SELECT id FROM found WHERE what >= 4))
         ) b ON b.id = f.id"
);

/// A session that one caller claims.
pub(super) struct SessionRequest {
    worker: WorkerId,
    session: SessionId,
    now: Timestamp,
}

pub(super) enum SessionClaimBatch {}

#[async_trait]
impl BatchKind for SessionClaimBatch {
    type Item = SessionRequest;
    /// `None` when the head changed under the claim, which is then tried again.
    type Answer = Option<SessionClaim>;
    type Key = SessionId;

    fn rows(_: &SessionRequest) -> usize {
        2
    }

    fn key(item: &SessionRequest) -> Option<SessionId> {
        Some(item.session.clone())
    }

    async fn run(db: &Db, items: &[SessionRequest], tries: Tries) -> Result<Vec<Option<SessionClaim>>, Failure> {
        let conn = db.batch_conn().await?;
        for worker in items.iter().map(|item| item.worker).collect::<HashSet<_>>() {
            db.registered.ensure(&conn, worker).await?;
        }
        let sessions: Vec<Cow<'_, str>> = items.iter().map(|item| text::escape(item.session.as_str())).collect();
        let workers: Vec<SqlId> = items.iter().map(|item| SqlId(*item.worker.as_bytes())).collect();
        let nows: Vec<i64> = items.iter().map(|item| item.now.0).collect();
        let (lock, claim) = (conn.prepare_cached(LOCK).await?, conn.prepare_cached(CLAIM).await?);
        let (locked, wanted): (Params<'_>, Params<'_>) =
            (&[&sessions], &[&sessions, &workers, &nows, &tries.maybe_done]);
        // Polled together, they are sent together: one round trip for the whole transaction. When one of them fails,
        // the server turns the commit into a rollback.
        let (begun, locked, rows, committed) = tokio::join!(
            biased;
            conn.batch_execute("BEGIN"),
            conn.query(&lock, locked),
            conn.query(&claim, wanted),
            conn.batch_execute("COMMIT")
        );
        begun?;
        locked?;
        let rows = rows?;
        committed?;
        let mut answers = HashMap::with_capacity(rows.len());
        for row in &rows {
            answers.insert(row.session(10)?, answer(db, row)?);
        }
        Ok(items.iter().map(|item| answers.remove(&item.session).flatten()).collect())
    }
}

fn answer(db: &Db, row: &Row) -> Result<Option<SessionClaim>, Failure> {
    Ok(Some(match row.number(7)? {
        0 => SessionClaim::Empty,
        1 => SessionClaim::Busy,
        2 => SessionClaim::Waiting,
        3 => SessionClaim::NotBefore(row.time(9)?),
        4 if !row.flag(8)? => return Ok(None),
        _ => {
            db.room.moved(-1);
            let mut claimed = claimed(row)?;
            claimed.task = Some(Arc::new(row.json(17)?));
            SessionClaim::Claimed { claimed: Box::new(claimed), session: Box::new(decode::session(row, 10)?) }
        }
    }))
}

/// Claims the oldest task of an inbox and with it the session.
pub(super) async fn claim_session(
    store: &PostgresStore,
    worker: WorkerId,
    session: &SessionId,
    now: Timestamp,
) -> Result<SessionClaim, StoreError> {
    for _ in 0..MAX_RACES {
        let wanted = SessionRequest { worker, session: session.clone(), now };
        if let Some(claim) = store.batches.session_claims.call(wanted).await? {
            return Ok(claim);
        }
        tokio::time::sleep(RACE_PAUSE).await;
    }
    // Other workers keep changing the inbox.
    Ok(SessionClaim::Busy)
}

/// A locked session whose fence and owner match a write.
pub(super) struct FencedSession {
    seq: i64,
    said: i64,
}

/// Returns the session of a write, which the caller has locked; `None` without a session.
pub(super) async fn fenced(tx: &Tx<'_>, write: &EncodedWrite) -> Result<Option<FencedSession>, Failure> {
    let Some(turn) = &write.advance.session else { return Ok(None) };
    let sql = "SELECT seq, messages FROM sessions WHERE id = $1 AND fence = $2 AND owner = $3 FOR UPDATE";
    let owner = SqlId(*write.advance.lease.worker.as_bytes());
    let params: Params<'_> = &[&text::escape(turn.session.as_str()), &signed(turn.fence), &owner];
    let fenced = row(tx, sql, params, |row| Ok(FencedSession { seq: row.number(0)?, said: row.number(1)? })).await?;
    Ok(Some(fenced.ok_or(StoreError::Fenced)?))
}

/// Appends the messages of a turn, numbered from the session's last one.
pub(super) async fn append_turn(
    tx: &Tx<'_>,
    session: FencedSession,
    write: &EncodedWrite,
    messages: &Messages<'_>,
) -> Result<(), Failure> {
    let Some(turn) = &write.advance.session else { return Ok(()) };
    let sql = "UPDATE sessions SET messages = messages + $2, turns = turns + 1, summary = coalesce($3, summary),
                   updated_at = $4
               WHERE id = $1";
    let count = signed(messages.n.len() as u64);
    execute(tx, sql, &[&text::escape(turn.session.as_str()), &count, &write.summary, &write.at().0]).await?;
    let sql = "INSERT INTO messages (session, number, task, at, body)
               SELECT $1, $2 + m.n, $3, $4, m.body FROM unnest($5::bigint[], $6::text[]) AS m (n, body)";
    execute(tx, sql, &[&session.seq, &session.said, &write.id(), &write.at().0, &messages.n, &messages.body])
        .await
        .map(drop)
}

/// Returns whether the session has the turn of a write; false without a turn.
pub(super) async fn is_written(tx: &Tx<'_>, write: &EncodedWrite) -> Result<bool, Failure> {
    let Some(turn) = &write.advance.session else { return Ok(false) };
    let sql = "SELECT count(*) FROM messages m JOIN sessions s ON s.seq = m.session
               WHERE s.id = $1 AND m.number > s.messages - $2 AND m.task = $3 AND m.at = $4";
    let count = signed(turn.messages.len() as u64);
    let params: Params<'_> = &[&text::escape(turn.session.as_str()), &count, &write.id(), &write.at().0];
    Ok(count > 0 && only(tx, sql, params, |row| row.number(0)).await? == count)
}

/// Releases the session until the next claim; when the same worker claims next, its fence stays.
pub(super) async fn release(tx: &Tx<'_>, session: &str) -> Result<(), Failure> {
    execute(tx, "UPDATE sessions SET held = false WHERE id = $1 AND held", &[&session]).await.map(drop)
}
