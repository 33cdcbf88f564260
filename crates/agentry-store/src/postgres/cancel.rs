//! Cancellation: a task that is not running ends at once, a running one is marked.

use agentry_core::clarification::Resolution;
use agentry_core::id::TaskId;
use agentry_core::outbox::OutboxMessage;
use agentry_core::task::{ErrorCode, Outcome, TaskError, TaskStatus};
use agentry_core::time::Timestamp;

use super::counts::{self, StatusChanges};
use super::failure::Failure;
use super::pool::{Db, Tries, Tx};
use super::rows::{SqlId, execute, row};
use super::single_write::{TaskEnd, store_end};
use super::{clarifications, outbox};
use crate::CancelResult;
use crate::sql::columns::{Columns, to_json};

pub(super) async fn cancel(
    db: &Db,
    task: TaskId,
    now: Timestamp,
    messages: &[OutboxMessage],
    tries: Tries,
) -> Result<CancelResult, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let id = SqlId(*task.as_bytes());
    let sql = "SELECT status, used_us, questions FROM open_tasks WHERE id = $1 FOR UPDATE";
    let open = row(&tx, sql, &[&id], |row| Ok((row.status(0)?, row.number(1)?, row.number(2)?))).await?;
    let Some((status, used_us, questions)) = open else { return ended(&tx, id, now, tries).await };
    if status == TaskStatus::Running {
        execute(&tx, "UPDATE open_tasks SET cancel = true WHERE id = $1", &[&id]).await?;
        tx.commit().await?;
        return Ok(CancelResult::Requested);
    }
    let outcome = Outcome::from_error(TaskError::new(ErrorCode::Cancelled, format!("cancelled while {status}")));
    let end = TaskEnd {
        status: outcome.status,
        at: now,
        used_us,
        cancel: true,
        owner: None,
        version: None,
        outcome: &to_json(&outcome)?,
    };
    store_end(&tx, id, &end).await?;
    if questions > 0 {
        clarifications::withdraw(&tx, task, &Resolution::Withdrawn { at: now }).await?;
    }
    outbox::insert_all(&tx, messages).await?;
    let waited = status == TaskStatus::Waiting;
    counts::add(&tx, StatusChanges { queued: -i64::from(!waited), waiting: -i64::from(waited), running: 0 }).await?;
    tx.commit().await?;
    Ok(CancelResult::Ended)
}

/// Returns the answer for a task that is not open. When an earlier try may have succeeded, a cancellation at this time
/// is its own.
async fn ended(tx: &Tx<'_>, id: SqlId, now: Timestamp, tries: Tries) -> Result<CancelResult, Failure> {
    let sql = "SELECT status, owner IS NULL AND finished_at = $2 FROM ended_tasks WHERE id = $1";
    let found = row(tx, sql, &[&id, &now.0], |row| Ok((row.status(0)?, row.flag(1)?))).await?;
    let Some((status, by_nobody_now)) = found else { return Ok(CancelResult::Unknown) };
    let own = tries.maybe_done && status == TaskStatus::Cancelled && by_nobody_now;
    Ok(if own { CancelResult::Ended } else { CancelResult::AlreadyEnded(status) })
}
