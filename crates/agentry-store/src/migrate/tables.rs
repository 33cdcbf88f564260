//! The tables to move: for each table of PostgreSQL, how its rows are read from SQLite.
//!
//! Rows keep their numbers (`seq`), so that queues, inboxes, the outbox and lists keep their order, and messages their
//! session. A task is one row in SQLite and several tables in PostgreSQL: the submission, and its state or its end.

use super::row::{Column, ColumnType};

/// A table to move.
pub(super) struct Table {
    /// Name in PostgreSQL.
    pub(super) name: &'static str,
    /// Query that reads its rows from SQLite, with the columns in order.
    pub(super) select: &'static str,
    pub(super) columns: &'static [Column],
    /// SQLite's query for the last assigned number, when PostgreSQL numbers the rows in `seq`.
    pub(super) last_number: Option<&'static str>,
}

const fn table(name: &'static str, select: &'static str, columns: &'static [Column]) -> Table {
    Table { name, select, columns, last_number: None }
}

/// Lists columns with their types.
macro_rules! columns {
    ($($name:ident: $kind:ident $(| $null:ident)?),+) => {
        &[$(Column { name: stringify!($name), kind: ColumnType::$kind, optional: ["" $(, stringify!($null))?].len() > 1 }),+]
    };
}

/// Every table whose rows are moved. `counters` and `fleet_revision` follow from them; workers are moved as far as they own running tasks;
/// `browser_sessions` are not: users sign in again.
pub(super) static TABLES: [Table; 20] = [
    // SQLite does not keep `ready_at` as accepted, and nothing reads it after acceptance: the last one is used.
    table(
        "tasks",
        "SELECT t.id, b.body -> '$.created_at', t.ready_at, t.mode, t.rank, n.name, t.session, b.body
         FROM tasks t LEFT JOIN task_bodies b ON b.seq = t.seq LEFT JOIN names n ON n.id = t.agent
         ORDER BY t.seq",
        columns!(
            id: Id, created_at: Moment, ready_at: Big, mode: Small, rank: Small, agent: Text, session: Text | Null,
            body: Json
        ),
    ),
    // Lanes are 0 ready, 1 delayed and 2 parked. SQLite marks delayed tasks only while they are queued.
    table(
        "open_tasks",
        "SELECT t.id, CASE WHEN t.status = 1 THEN t.owner END, t.seq, t.ready_at, t.claimed_at, t.started_at,
         t.used_us, t.attempt, t.epoch, t.recoveries, t.journal, t.questions, t.status, t.mode, t.rank,
         CASE t.status WHEN 0 THEN t.delayed WHEN 1 THEN 0 ELSE 2 END, t.cancel, n.name, t.session, v.name
         FROM tasks t LEFT JOIN names n ON n.id = t.agent LEFT JOIN names v ON v.id = t.version
         WHERE t.status < 3 ORDER BY t.seq",
        columns!(
            id: Id, owner: Id | Null, seq: Big, ready_at: Big, claimed_at: Big, started_at: Big, used_us: Big,
            attempt: Int, epoch: Int, recoveries: Int, journal: Int, questions: Int, status: Small, mode: Small,
            rank: Small, lane: Small, cancel: Bool, agent: Text, session: Text | Null, version: Text | Null
        ),
    )
    .numbered("SELECT max(seq) FROM tasks"),
    table(
        "ended_tasks",
        "SELECT t.id, CASE WHEN t.epoch > 0 THEN t.owner END, t.ready_at, t.started_at, t.finished_at, t.used_us,
         t.attempt, t.epoch, t.recoveries, t.status, t.cancel, v.name, o.outcome
         FROM tasks t LEFT JOIN task_outcomes o ON o.seq = t.seq LEFT JOIN names v ON v.id = t.version
         WHERE t.status >= 3 ORDER BY t.seq",
        columns!(
            id: Id, owner: Id | Null, ready_at: Big, started_at: Big, finished_at: Big, used_us: Big, attempt: Int,
            epoch: Int, recoveries: Int, status: Small, cancel: Bool, version: Text | Null, outcome: Json
        ),
    ),
    table(
        "journal",
        "SELECT t.id, j.seq, j.attempt, j.at, j.scope, j.body
         FROM journal j LEFT JOIN tasks t ON t.seq = j.task ORDER BY j.task, j.seq",
        columns!(task: Id, seq: Int, attempt: Int, at: Big, scope: Text, body: Json),
    ),
    // The ledger outlives its tasks: a call of a deleted task has its own id in place of the task's.
    table(
        "ledger",
        "SELECT coalesce(t.id, l.call), l.call, l.at, l.input, l.cached, l.output, l.reasoning, l.cost,
         l.duration_us, l.status,
         a.name, p.name, m.name, l.cache_write, l.cache_write_1h, l.provider_call
         FROM ledger l LEFT JOIN tasks t ON t.seq = l.task LEFT JOIN names a ON a.id = l.agent
         LEFT JOIN names p ON p.id = l.provider LEFT JOIN names m ON m.id = l.model
         ORDER BY l.task, l.call",
        columns!(
            task: Id, call: Id, at: Big, input: Big, cached: Big, output: Big, reasoning: Big, cost: Big | Null,
            duration_us: Big, status: Small, agent: Text, provider: Text, model: Text, cache_write: Big,
            cache_write_1h: Big, provider_call: Text | Null
        ),
    ),
    table(
        "idempotency",
        "SELECT key, task, fingerprint, created_at FROM idempotency ORDER BY key",
        columns!(key: Text, task: Id, fingerprint: Big, created_at: Big),
    ),
    table(
        "sessions",
        "SELECT id, seq, agent, fence, owner, held, messages, turns, summary, created_at, updated_at
         FROM sessions ORDER BY seq",
        columns!(
            id: Text, seq: Big, agent: Text, fence: Big, owner: Id | Null, held: Bool, messages: Big, turns: Big,
            summary: Json | Null, created_at: Big, updated_at: Big
        ),
    )
    .numbered("SELECT max(seq) FROM sessions"),
    table(
        "messages",
        "SELECT session, number, task, at, body FROM messages ORDER BY session, number",
        columns!(session: Big, number: Big, task: Id, at: Big, body: Json),
    ),
    table(
        "clarifications",
        "SELECT c.id, t.id, c.attempt, c.expires_at, c.body, c.resolution, c.thread
         FROM clarifications c LEFT JOIN tasks t ON t.seq = c.task ORDER BY c.seq",
        columns!(
            id: Id, task: Id, attempt: Int, expires_at: Big, body: Json, resolution: Json | Null, thread: Text | Null
        ),
    ),
    table(
        "schedules",
        "SELECT name, agent, from_file, spec, paused, last_slot, missed, skipped, created_at
         FROM schedules ORDER BY name",
        columns!(
            name: Text, agent: Text, from_file: Bool, spec: Json, paused: Bool, last_slot: Big | Null, missed: Big,
            skipped: Big, created_at: Big
        ),
    ),
    table(
        "slots",
        "SELECT schedule, slot, state, task, open, decided_at FROM slots ORDER BY schedule, slot",
        columns!(schedule: Text, slot: Big, state: Small, task: Id | Null, open: Bool, decided_at: Big),
    ),
    table(
        "events",
        "SELECT seq, source, id, at, body FROM events ORDER BY seq",
        columns!(seq: Big, source: Text, id: Text, at: Big, body: Json),
    )
    .numbered("SELECT max(seq) FROM events"),
    // Claims are released, because their workers are gone. The attempt counts, because the message may have been sent.
    table(
        "outbox",
        "SELECT id, seq, ready_at, attempt, message FROM outbox ORDER BY seq",
        columns!(id: Id, seq: Big, ready_at: Big, attempt: Int, message: Json),
    )
    .numbered("SELECT max(seq) FROM outbox"),
    table(
        "dead_letters",
        "SELECT id, seq, origin, task, agent, reason, payload, created_at, state FROM dead_letters ORDER BY seq",
        columns!(
            id: Id, seq: Big, origin: Small, task: Id, agent: Text, reason: Json, payload: Json, created_at: Big,
            state: Small
        ),
    )
    .numbered("SELECT max(seq) FROM dead_letters"),
    // Recovery starts from workers, so the owners of running tasks are moved, without their lock and record: they count
    // as dead as soon as their last heartbeat is too old. For one that was never registered the last claim is known,
    // and the time after it does not count as running time of its tasks.
    table(
        "workers",
        "SELECT t.owner, coalesce(w.heartbeat_at, max(t.claimed_at)), 0, 0
         FROM tasks t LEFT JOIN workers w ON w.id = t.owner WHERE t.status = 1 GROUP BY t.owner",
        columns!(id: Id, heartbeat_at: Big, locked: Bool, gone: Bool),
    ),
    table(
        "versions",
        "SELECT agent, version, spec FROM versions ORDER BY agent, version",
        columns!(agent: Text, version: Text, spec: Json),
    ),
    table(
        "fleet",
        "SELECT agent, version, revision, removed, changed_at FROM fleet ORDER BY agent",
        columns!(agent: Text, version: Text, revision: Big, removed: Bool, changed_at: Big),
    ),
    table(
        "agent_status",
        "SELECT agent, state, version, restarts, reason, since FROM agent_status ORDER BY agent",
        columns!(agent: Text, state: Text, version: Text | Null, restarts: Big, reason: Text | Null, since: Big),
    ),
    table(
        "api_keys",
        "SELECT id, hash, name, scope, created_at, expires_at, used_at, revoked_at FROM api_keys ORDER BY id",
        columns!(
            id: Id, hash: Text, name: Text, scope: Small, created_at: Big, expires_at: Big | Null, used_at: Big | Null,
            revoked_at: Big | Null
        ),
    ),
    table("audit", "SELECT id, body FROM audit ORDER BY id", columns!(id: Id, body: Json)),
];

impl Table {
    const fn numbered(self, last_number: &'static str) -> Self {
        Self { last_number: Some(last_number), ..self }
    }

    /// Returns its column names, separated by commas.
    pub(super) fn names(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }
}
