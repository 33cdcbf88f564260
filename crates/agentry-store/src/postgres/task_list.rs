//! Reading tasks: one, or a page.

use agentry_core::id::{ClarificationId, TaskId};
use agentry_core::task::TaskRecord;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::failure::Failure;
use super::pool::Db;
use super::rows::SqlId;
use super::text;
use crate::sql::decode;
use crate::{Page, StoreError, TaskFilter};

/// Columns of a record, from `t` (tasks), `o` (open_tasks) and `e` (ended_tasks). Sums and questions come with each
/// row, so that a page is one statement.
const COLUMNS: &str =
    "t.body, coalesce(o.status, e.status), coalesce(o.attempt, e.attempt), coalesce(o.epoch, e.epoch),
    o.owner, coalesce(o.version, e.version), coalesce(o.ready_at, e.ready_at), coalesce(o.started_at, e.started_at),
    e.finished_at, coalesce(o.cancel, e.cancel), e.outcome,
    CASE WHEN o.questions > 0 THEN
        ARRAY(SELECT c.id FROM clarifications c WHERE c.task = t.id AND c.resolution IS NULL ORDER BY c.id)
    END,
    l.calls, l.input, l.output, l.cost, l.unpriced";

/// Sums of a task's ledger rows.
const SPENT: &str = "CROSS JOIN LATERAL (
        SELECT count(*)::integer AS calls, coalesce(sum(input), 0)::bigint AS input,
            coalesce(sum(output), 0)::bigint AS output, coalesce(sum(cost), 0)::bigint AS cost,
            (count(*) - count(cost))::integer AS unpriced
        FROM ledger WHERE task = t.id
    ) l";

/// Returns a task.
pub(super) async fn one(db: &Db, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM tasks t LEFT JOIN open_tasks o ON o.id = t.id LEFT JOIN ended_tasks e ON e.id = t.id {SPENT}
         WHERE t.id = $1"
    );
    db.row(&sql, &[&SqlId(*id.as_bytes())], record).await
}

/// Returns tasks, newest first.
pub(super) async fn page(
    db: &Db,
    filter: &TaskFilter,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Page<TaskRecord>, StoreError> {
    let before = before.map(|id| SqlId(*id.as_bytes()));
    let agent = filter.agent.as_ref().map(|agent| agent.as_str());
    let session = filter.session.as_ref().map(|session| text::escape(session.as_str()));
    let mut params: Vec<&(dyn ToSql + Sync)> = Vec::new();
    let sql = select(filter, before.is_some());
    if let Some(agent) = &agent {
        params.push(agent);
    }
    if let Some(session) = &session {
        params.push(session);
    }
    if let Some(before) = &before {
        params.push(before);
    }
    db.page(&sql, &params, limit, record).await
}

/// Builds the statement of a page. It starts from the table that the status implies, and takes one page of ids before
/// it reads anything else. Statuses and modes are literals, so that the planner can use the partial indexes.
fn select(filter: &TaskFilter, before: bool) -> String {
    let source = match filter.status {
        None => "tasks t",
        Some(status) if status.is_terminal() => "ended_tasks s JOIN tasks t ON t.id = s.id",
        Some(_) => "open_tasks s JOIN tasks t ON t.id = s.id",
    };
    let mut wanted = format!("SELECT t.id FROM {source} WHERE true");
    let mut number = 0;
    let mut param = || {
        number += 1;
        number
    };
    if filter.agent.is_some() {
        wanted.push_str(&format!(" AND t.agent = ${}", param()));
    }
    if filter.session.is_some() {
        wanted.push_str(&format!(" AND t.session = ${}", param()));
    }
    if let Some(status) = filter.status {
        wanted.push_str(&format!(" AND s.status = {}", status as u8));
    }
    if let Some(mode) = filter.mode {
        wanted.push_str(&format!(" AND t.mode = {}", mode as u8));
    }
    if before {
        wanted.push_str(&format!(" AND t.id < ${}", param()));
    }
    wanted.push_str(&format!(" ORDER BY t.id DESC LIMIT ${}", param()));
    format!(
        "SELECT {COLUMNS} FROM ({wanted}) w JOIN tasks t ON t.id = w.id LEFT JOIN open_tasks o ON o.id = w.id
             LEFT JOIN ended_tasks e ON e.id = w.id {SPENT}
         ORDER BY w.id DESC"
    )
}

fn record(row: &Row) -> Result<TaskRecord, Failure> {
    let questions = row.try_get::<_, Option<Vec<SqlId>>>(11)?.unwrap_or_default();
    let questions = questions.into_iter().map(|id| ClarificationId::from_bytes(id.0)).collect();
    decode::task_record(row, decode::spent(row, 12)?, questions)
}
