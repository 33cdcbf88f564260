//! Reading tasks: one, a page, or a journal.

use agentry_core::id::{ClarificationId, TaskId};
use agentry_core::journal::JournalEntry;
use agentry_core::task::{TaskRecord, TaskStatus, TaskUsage};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params_from_iter};

use super::failure::Failure;
use super::rows::{row, rows, value};
use crate::sql::columns::Columns;
use crate::sql::decode;
use crate::sql::limits::{one_more, sql_limit};
use crate::{Backlog, Page, QueuedTasks, TaskFilter};

const SELECT: &str = "SELECT b.body, t.status, t.attempt, t.epoch, t.owner, v.name, t.ready_at, t.started_at,
        t.finished_at, t.cancel, o.outcome, t.seq, t.questions
    FROM tasks t JOIN task_bodies b ON b.seq = t.seq LEFT JOIN task_outcomes o ON o.seq = t.seq
        LEFT JOIN names v ON v.id = t.version";

/// Selects queued tasks by the indexes that hold them, in no order.
const QUEUED: &str = "SELECT seq FROM tasks WHERE status = 0 AND session IS NULL AND delayed = 0
    UNION ALL SELECT seq FROM tasks WHERE status = 0 AND delayed = 1
    UNION ALL SELECT seq FROM tasks INDEXED BY tasks_inbox
        WHERE status = 0 AND delayed = 0 AND session IS NOT NULL AND status < 3";
/// Number of queued tasks up to which a page is read by their indexes and sorted. With more, scanning all tasks finds a
/// page soon.
const FEW_QUEUED: usize = 5_000;

/// Returns a task.
pub(super) fn one(conn: &Connection, id: TaskId) -> Result<Option<TaskRecord>, Failure> {
    row(conn, &format!("{SELECT} WHERE t.id = ?1"), [id.as_bytes()], |row| record(conn, row))
}

/// Returns tasks, newest first.
pub(super) fn page(
    conn: &Connection,
    filter: &TaskFilter,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Page<TaskRecord>, Failure> {
    let few = filter.status == Some(TaskStatus::Queued) && few_queued(conn)?;
    let (sql, mut values) = query(filter, before, few);
    values.push(Sql::Integer(one_more(limit)));
    Ok(Page::cut(rows(conn, &sql, params_from_iter(values), |row| record(conn, row))?, limit))
}

fn few_queued(conn: &Connection) -> Result<bool, Failure> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM ({QUEUED}) LIMIT {})", FEW_QUEUED + 1);
    Ok(value::<usize>(conn, &sql, [])? <= FEW_QUEUED)
}

fn query(filter: &TaskFilter, before: Option<TaskId>, few_queued: bool) -> (String, Vec<Sql>) {
    let mut sql = format!("{SELECT} WHERE 1");
    let mut values = Vec::new();
    let is_rare = |status: TaskStatus| status.is_terminal() && status != TaskStatus::Completed;
    let rare = filter.status.is_some_and(is_rare);
    if let Some(agent) = &filter.agent {
        // `+` keeps SQLite from scanning all tasks of the agent where the index of the few has them.
        let few = if rare { "+" } else { "" };
        sql.push_str(&format!(" AND {few}t.agent = (SELECT id FROM names WHERE name = ?)"));
        values.push(Sql::Text(agent.to_string()));
    }
    if let Some(session) = &filter.session {
        sql.push_str(" AND t.session = ?");
        values.push(Sql::Text(session.to_string()));
    }
    // Literals, so that SQLite can use the partial indexes.
    if let Some(status) = filter.status {
        sql.push_str(&format!(" AND t.status = {}", status as u8));
    }
    if rare {
        sql.push_str(" AND t.status > 3");
    }
    if few_queued {
        sql.push_str(&format!(" AND t.seq IN ({QUEUED})"));
    }
    if let Some(mode) = filter.mode {
        sql.push_str(&format!(" AND t.mode = {}", mode as u8));
    }
    if let Some(before) = before {
        sql.push_str(" AND t.seq < (SELECT seq FROM tasks WHERE id = ?)");
        values.push(Sql::Blob(before.as_bytes().to_vec()));
    }
    sql.push_str(" ORDER BY t.seq DESC LIMIT ?");
    (sql, values)
}

fn record(conn: &Connection, row: &Row<'_>) -> Result<TaskRecord, Failure> {
    let seq = row.number(11)?;
    let questions = if row.number(12)? > 0 { open_questions(conn, seq)? } else { Vec::new() };
    decode::task_record(row, spent(conn, seq)?, questions)
}

/// Sums the task's ledger rows.
fn spent(conn: &Connection, seq: i64) -> Result<TaskUsage, Failure> {
    let sql = "SELECT count(*), coalesce(sum(input), 0), coalesce(sum(output), 0), coalesce(sum(cost), 0),
                   count(*) - count(cost)
               FROM ledger WHERE task = ?1";
    Ok(row(conn, sql, [seq], |row| decode::spent(row, 0))?.unwrap_or_default())
}

fn open_questions(conn: &Connection, seq: i64) -> Result<Vec<ClarificationId>, Failure> {
    let sql = "SELECT id FROM clarifications WHERE task = ?1 AND resolution IS NULL ORDER BY seq";
    rows(conn, sql, [seq], |row| row.id(0))
}

/// Returns the entries of a task's journal after a number.
pub(super) fn journal(conn: &Connection, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, Failure> {
    let sql = "SELECT seq, attempt, scope, at, body FROM journal
               WHERE task = (SELECT seq FROM tasks WHERE id = ?1) AND seq > ?2 ORDER BY seq LIMIT ?3";
    rows(conn, sql, (task.as_bytes(), after, sql_limit(limit)), |row| decode::journal_entry(row))
}

/// Returns the pending work, from the indexes that hold it. The oldest task is the one that was accepted first.
pub(super) fn backlog(conn: &Connection) -> Result<Backlog, Failure> {
    let sql = "SELECT mode, count, (SELECT ready_at FROM tasks WHERE seq = oldest) FROM (
             SELECT mode, sum(count) AS count, min(oldest) AS oldest FROM (
                 SELECT mode, count(*) AS count, min(seq) AS oldest FROM tasks
                     WHERE status = 0 AND session IS NULL AND delayed = 0 GROUP BY mode
                 UNION ALL SELECT mode, count(*), NULL FROM tasks WHERE status = 0 AND delayed = 1 GROUP BY mode
                 UNION ALL SELECT mode, count(*), min(seq) FROM tasks INDEXED BY tasks_inbox
                     WHERE status = 0 AND delayed = 0 AND session IS NOT NULL AND status < 3 GROUP BY mode
             ) GROUP BY mode
         )";
    let mut backlog = Backlog {
        outbox: value(conn, "SELECT count(*) FROM outbox", [])?,
        dead_letters: value(conn, "SELECT count(*) FROM dead_letters WHERE state = 0", [])?,
        ..Backlog::default()
    };
    let found = rows(conn, sql, [], |row| {
        Ok((row.count::<usize>(0)?, QueuedTasks { count: row.count(1)?, due_since: row.time_or_none(2)? }))
    })?;
    for (mode, queued) in found {
        if let Some(place) = backlog.queued.get_mut(mode) {
            *place = queued;
        }
    }
    Ok(backlog)
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::AgentName;

    use super::*;

    /// Returns SQLite's query plan for a page of a filter.
    fn way(filter: &TaskFilter, few_queued: bool) -> String {
        let conn = Connection::open_in_memory().unwrap();
        super::super::migrations::apply(&conn).unwrap();
        let (sql, mut values) = query(filter, None, few_queued);
        values.push(Sql::Integer(50));
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn rare_statuses_are_found_by_their_index() {
        let agent = Some(AgentName::new("a").unwrap());
        for status in [TaskStatus::Failed, TaskStatus::TimedOut, TaskStatus::Cancelled] {
            for agent in [None, agent.clone()] {
                let way = way(&TaskFilter { status: Some(status), agent, ..TaskFilter::default() }, false);
                assert!(way.contains("SEARCH t USING INDEX tasks_not_completed"), "{status}: {way}");
                assert!(!way.contains("TEMP B-TREE FOR ORDER BY"), "{status}: {way}");
            }
        }
        let queued = TaskFilter { status: Some(TaskStatus::Queued), ..TaskFilter::default() };
        assert!(way(&queued, true).contains("SEARCH t USING INTEGER PRIMARY KEY"), "{}", way(&queued, true));
        assert!(way(&queued, false).contains("SCAN t"), "{}", way(&queued, false));
    }
}
