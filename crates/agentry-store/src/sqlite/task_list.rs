//! Reading tasks: one, a page, a journal.

use agentry_core::id::{ClarificationId, TaskId, WorkerId};
use agentry_core::journal::{JournalEntry, Scope};
use agentry_core::money::NanoUsd;
use agentry_core::task::{Spent, TaskRecord, TaskStatus};
use agentry_core::time::Timestamp;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params_from_iter};

use super::failure::Failure;
use super::rows::{collect, first, json_at, json_or_none, page_len, signed, sql_limit, status};
use crate::{Backlog, Page, Queued, TaskFilter};

const SELECT: &str = "SELECT t.seq, b.body, t.status, t.attempt, t.epoch, t.owner, v.name, t.ready_at, t.started_at,
        t.finished_at, t.cancel, o.outcome, t.questions
    FROM tasks t JOIN task_bodies b ON b.seq = t.seq LEFT JOIN task_outcomes o ON o.seq = t.seq
        LEFT JOIN names v ON v.id = t.version";

/// Queued tasks by the indexes that hold them, in no order.
const QUEUED: &str = "SELECT seq FROM tasks WHERE status = 0 AND session IS NULL AND delayed = 0
    UNION ALL SELECT seq FROM tasks WHERE status = 0 AND delayed = 1
    UNION ALL SELECT seq FROM tasks INDEXED BY tasks_inbox
        WHERE status = 0 AND delayed = 0 AND session IS NOT NULL AND status < 3";
/// So many queued tasks are found by their indexes and put in order. Of more, a page is found soon by going through all tasks.
const FEW_QUEUED: usize = 5_000;

/// A task.
pub(super) fn one(conn: &Connection, id: TaskId) -> Result<Option<TaskRecord>, Failure> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE t.id = ?1"))?;
    first(&mut statement, [id.as_bytes()], |row| record(conn, row))
}

/// Tasks, newest first.
pub(super) fn page(
    conn: &Connection,
    filter: &TaskFilter,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Page<TaskRecord>, Failure> {
    let limit = page_len(limit);
    let few = filter.status == Some(TaskStatus::Queued) && few_queued(conn)?;
    let (sql, mut values) = query(filter, before, few);
    values.push(Sql::Integer(signed(limit as u64 + 1)));
    let mut statement = conn.prepare_cached(&sql)?;
    let mut items = collect(&mut statement, params_from_iter(values), |row| record(conn, row))?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

fn few_queued(conn: &Connection) -> Result<bool, Failure> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM ({QUEUED}) LIMIT {})", FEW_QUEUED + 1);
    let count: usize = conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
    Ok(count <= FEW_QUEUED)
}

fn query(filter: &TaskFilter, before: Option<TaskId>, few_queued: bool) -> (String, Vec<Sql>) {
    let mut sql = format!("{SELECT} WHERE 1");
    let mut values = Vec::new();
    let is_rare = |status: TaskStatus| status.is_terminal() && status != TaskStatus::Completed;
    let rare = filter.status.is_some_and(is_rare);
    if let Some(agent) = &filter.agent {
        // `+` keeps SQLite from going through all tasks of the agent where the index of the few has them.
        let few = if rare { "+" } else { "" };
        sql.push_str(&format!(" AND {few}t.agent = (SELECT id FROM names WHERE name = ?)"));
        values.push(Sql::Text(agent.to_string()));
    }
    if let Some(session) = &filter.session {
        sql.push_str(" AND t.session = ?");
        values.push(Sql::Text(session.to_string()));
    }
    // As literals, so that SQLite sees which partial index may be used.
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
    let seq: i64 = row.get(0)?;
    let status = status(row.get(2)?)?;
    let epoch = row.get(4)?;
    let questions: i64 = row.get(12)?;
    let owner = WorkerId::from_bytes(row.get(5)?);
    Ok(TaskRecord {
        task: json_at(row, 1)?,
        status,
        attempt: row.get(3)?,
        epoch,
        owner: (status == TaskStatus::Running).then_some(owner),
        agent_version: row.get(6)?,
        ready_at: Timestamp(row.get(7)?),
        started_at: if epoch > 0 { Some(Timestamp(row.get(8)?)) } else { None },
        finished_at: if status.is_terminal() { Some(Timestamp(row.get(9)?)) } else { None },
        cancel_requested: row.get(10)?,
        outcome: json_or_none(row, 11)?,
        spent: spent(conn, seq)?,
        clarifications: if questions > 0 { open_questions(conn, seq)? } else { Vec::new() },
    })
}

/// Sums of the task's ledger rows.
fn spent(conn: &Connection, seq: i64) -> Result<Spent, Failure> {
    Ok(conn
        .prepare_cached(
            "SELECT count(*), coalesce(sum(input), 0), coalesce(sum(output), 0), coalesce(sum(cost), 0), count(*) - count(cost)
             FROM ledger WHERE task = ?1",
        )?
        .query_row([seq], |row| {
            Ok(Spent {
                llm_calls: row.get(0)?,
                input_tokens: row.get(1)?,
                output_tokens: row.get(2)?,
                cost_nanos: NanoUsd(row.get(3)?),
                unpriced_calls: row.get(4)?,
            })
        })?)
}

fn open_questions(conn: &Connection, seq: i64) -> Result<Vec<ClarificationId>, Failure> {
    let mut statement =
        conn.prepare_cached("SELECT id FROM clarifications WHERE task = ?1 AND resolution IS NULL ORDER BY seq")?;
    collect(&mut statement, [seq], |row| Ok(ClarificationId::from_bytes(row.get(0)?)))
}

/// The entries of a task's journal after a number.
pub(super) fn journal(conn: &Connection, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, attempt, scope, at, body FROM journal
         WHERE task = (SELECT seq FROM tasks WHERE id = ?1) AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    collect(&mut statement, (task.as_bytes(), after, sql_limit(limit)), |row| {
        Ok(JournalEntry {
            seq: row.get(0)?,
            attempt: row.get(1)?,
            scope: Scope::from(row.get::<_, String>(2)?),
            at: Timestamp(row.get(3)?),
            body: json_at(row, 4)?,
        })
    })
}

/// What waits, from the indexes that hold it. The oldest task is the one that was accepted first.
pub(super) fn backlog(conn: &Connection) -> Result<Backlog, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT mode, count, (SELECT ready_at FROM tasks WHERE seq = oldest) FROM (
             SELECT mode, sum(count) AS count, min(oldest) AS oldest FROM (
                 SELECT mode, count(*) AS count, min(seq) AS oldest FROM tasks
                     WHERE status = 0 AND session IS NULL AND delayed = 0 GROUP BY mode
                 UNION ALL SELECT mode, count(*), NULL FROM tasks WHERE status = 0 AND delayed = 1 GROUP BY mode
                 UNION ALL SELECT mode, count(*), min(seq) FROM tasks INDEXED BY tasks_inbox
                     WHERE status = 0 AND delayed = 0 AND session IS NOT NULL AND status < 3 GROUP BY mode
             ) GROUP BY mode
         )",
    )?;
    let count = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get(0));
    let mut backlog = Backlog {
        outbox: count("SELECT count(*) FROM outbox")?,
        dead_letters: count("SELECT count(*) FROM dead_letters WHERE state = 0")?,
        ..Backlog::default()
    };
    let rows = collect(&mut statement, [], |row| {
        let due_since = row.get::<_, Option<i64>>(2)?.map(Timestamp);
        Ok((row.get::<_, usize>(0)?, Queued { count: row.get(1)?, due_since }))
    })?;
    for (mode, queued) in rows {
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

    /// How SQLite goes about a page of a filter.
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
    fn what_few_tasks_are_is_found_without_going_through_all() {
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
