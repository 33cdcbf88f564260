//! What is moved: for each table of PostgreSQL, how its rows are read from SQLite.
//!
//! Rows keep their numbers (`seq`), so that queues, inboxes, the outbox and lists keep their order, and messages their
//! session. A task is one row in SQLite and several tables in PostgreSQL: what was asked, and where it stands or how it
//! ended.

use super::row::{Column, Kind};

/// A table to move.
pub(super) struct Table {
    /// Its name in PostgreSQL.
    pub(super) name: &'static str,
    /// Reads its rows from SQLite, with the columns in their order.
    pub(super) select: &'static str,
    /// Its columns.
    pub(super) columns: &'static [Column],
    /// The column that PostgreSQL numbers, and SQLite's query for the last number that was given.
    pub(super) numbered: Option<(&'static str, &'static str)>,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, optional: false }
}

const fn id(name: &'static str) -> Column {
    column(name, Kind::Id)
}

const fn small(name: &'static str) -> Column {
    column(name, Kind::Small)
}

const fn int(name: &'static str) -> Column {
    column(name, Kind::Int)
}

const fn big(name: &'static str) -> Column {
    column(name, Kind::Big)
}

const fn flag(name: &'static str) -> Column {
    column(name, Kind::Bool)
}

const fn text(name: &'static str) -> Column {
    column(name, Kind::Text)
}

const fn json(name: &'static str) -> Column {
    column(name, Kind::Json)
}

const fn or_null(column: Column) -> Column {
    Column { optional: true, ..column }
}

/// Every table whose rows are moved. `counters` follows from them; workers are moved as far as they own what runs;
/// `browser_sessions` are not: signing in again is no loss.
pub(super) static TABLES: [Table; 19] = [
    TASKS,
    OPEN_TASKS,
    ENDED_TASKS,
    JOURNAL,
    LEDGER,
    IDEMPOTENCY,
    SESSIONS,
    MESSAGES,
    CLARIFICATIONS,
    SCHEDULES,
    SLOTS,
    EVENTS,
    OUTBOX,
    DEAD_LETTERS,
    WORKERS,
    VERSIONS,
    AGENT_STATUS,
    API_KEYS,
    AUDIT,
];

/// `ready_at` as accepted is not kept by SQLite, and nobody reads it after the task was accepted: it is the last one.
const TASKS: Table = Table {
    name: "tasks",
    select: "SELECT t.id, b.body -> '$.created_at', t.ready_at, t.mode, t.rank, n.name, t.session, b.body
             FROM tasks t LEFT JOIN task_bodies b ON b.seq = t.seq LEFT JOIN names n ON n.id = t.agent
             ORDER BY t.seq",
    columns: &[
        id("id"),
        column("created_at", Kind::Moment),
        big("ready_at"),
        small("mode"),
        small("rank"),
        text("agent"),
        or_null(text("session")),
        json("body"),
    ],
    numbered: None,
};

/// Lanes are 0 ready, 1 delayed and 2 parked. SQLite marks delayed tasks only while they are queued.
const OPEN_TASKS: Table = Table {
    name: "open_tasks",
    select: "SELECT t.id, CASE WHEN t.status = 1 THEN t.owner END, t.seq, t.ready_at, t.claimed_at, t.started_at,
                 t.used_us, t.attempt, t.epoch, t.recoveries, t.journal, t.questions, t.status, t.mode, t.rank,
                 CASE t.status WHEN 0 THEN t.delayed WHEN 1 THEN 0 ELSE 2 END, t.cancel, n.name, t.session, v.name
             FROM tasks t LEFT JOIN names n ON n.id = t.agent LEFT JOIN names v ON v.id = t.version
             WHERE t.status < 3 ORDER BY t.seq",
    columns: &[
        id("id"),
        or_null(id("owner")),
        big("seq"),
        big("ready_at"),
        big("claimed_at"),
        big("started_at"),
        big("used_us"),
        int("attempt"),
        int("epoch"),
        int("recoveries"),
        int("journal"),
        int("questions"),
        small("status"),
        small("mode"),
        small("rank"),
        small("lane"),
        flag("cancel"),
        text("agent"),
        or_null(text("session")),
        or_null(text("version")),
    ],
    numbered: Some(("seq", "SELECT max(seq) FROM tasks")),
};

const ENDED_TASKS: Table = Table {
    name: "ended_tasks",
    select: "SELECT t.id, CASE WHEN t.epoch > 0 THEN t.owner END, t.ready_at, t.started_at, t.finished_at, t.used_us,
                 t.attempt, t.epoch, t.recoveries, t.status, t.cancel, v.name, o.outcome
             FROM tasks t LEFT JOIN task_outcomes o ON o.seq = t.seq LEFT JOIN names v ON v.id = t.version
             WHERE t.status >= 3 ORDER BY t.seq",
    columns: &[
        id("id"),
        or_null(id("owner")),
        big("ready_at"),
        big("started_at"),
        big("finished_at"),
        big("used_us"),
        int("attempt"),
        int("epoch"),
        int("recoveries"),
        small("status"),
        flag("cancel"),
        or_null(text("version")),
        json("outcome"),
    ],
    numbered: None,
};

const JOURNAL: Table = Table {
    name: "journal",
    select: "SELECT t.id, j.seq, j.attempt, j.at, j.scope, j.body
             FROM journal j LEFT JOIN tasks t ON t.seq = j.task ORDER BY j.task, j.seq",
    columns: &[id("task"), int("seq"), int("attempt"), big("at"), text("scope"), json("body")],
    numbered: None,
};

/// The ledger outlives its tasks: a call whose task is forgotten stands for it by its own id.
const LEDGER: Table = Table {
    name: "ledger",
    select: "SELECT coalesce(t.id, l.call), l.call, l.at, l.input, l.cached, l.output, l.reasoning, l.cost, l.duration_us, l.status,
                 a.name, p.name, m.name, l.cache_write, l.cache_write_1h, l.provider_call
             FROM ledger l LEFT JOIN tasks t ON t.seq = l.task LEFT JOIN names a ON a.id = l.agent
                 LEFT JOIN names p ON p.id = l.provider LEFT JOIN names m ON m.id = l.model
             ORDER BY l.task, l.call",
    columns: &[
        id("task"),
        id("call"),
        big("at"),
        big("input"),
        big("cached"),
        big("output"),
        big("reasoning"),
        or_null(big("cost")),
        big("duration_us"),
        small("status"),
        text("agent"),
        text("provider"),
        text("model"),
        big("cache_write"),
        big("cache_write_1h"),
        or_null(text("provider_call")),
    ],
    numbered: None,
};

const IDEMPOTENCY: Table = Table {
    name: "idempotency",
    select: "SELECT key, task, fingerprint, created_at FROM idempotency ORDER BY key",
    columns: &[text("key"), id("task"), big("fingerprint"), big("created_at")],
    numbered: None,
};

const SESSIONS: Table = Table {
    name: "sessions",
    select: "SELECT id, seq, agent, fence, owner, held, messages, turns, summary, created_at, updated_at
             FROM sessions ORDER BY seq",
    columns: &[
        text("id"),
        big("seq"),
        text("agent"),
        big("fence"),
        or_null(id("owner")),
        flag("held"),
        big("messages"),
        big("turns"),
        or_null(json("summary")),
        big("created_at"),
        big("updated_at"),
    ],
    numbered: Some(("seq", "SELECT max(seq) FROM sessions")),
};

const MESSAGES: Table = Table {
    name: "messages",
    select: "SELECT session, number, task, at, body FROM messages ORDER BY session, number",
    columns: &[big("session"), big("number"), id("task"), big("at"), json("body")],
    numbered: None,
};

const CLARIFICATIONS: Table = Table {
    name: "clarifications",
    select: "SELECT c.id, t.id, c.attempt, c.expires_at, c.body, c.resolution, c.thread
             FROM clarifications c LEFT JOIN tasks t ON t.seq = c.task ORDER BY c.seq",
    columns: &[
        id("id"),
        id("task"),
        int("attempt"),
        big("expires_at"),
        json("body"),
        or_null(json("resolution")),
        or_null(text("thread")),
    ],
    numbered: None,
};

const SCHEDULES: Table = Table {
    name: "schedules",
    select: "SELECT name, agent, from_file, spec, paused, last_slot, missed, skipped, created_at
             FROM schedules ORDER BY name",
    columns: &[
        text("name"),
        text("agent"),
        flag("from_file"),
        json("spec"),
        flag("paused"),
        or_null(big("last_slot")),
        big("missed"),
        big("skipped"),
        big("created_at"),
    ],
    numbered: None,
};

const SLOTS: Table = Table {
    name: "slots",
    select: "SELECT schedule, slot, state, task, open, decided_at FROM slots ORDER BY schedule, slot",
    columns: &[text("schedule"), big("slot"), small("state"), or_null(id("task")), flag("open"), big("decided_at")],
    numbered: None,
};

const EVENTS: Table = Table {
    name: "events",
    select: "SELECT seq, source, id, at, body FROM events ORDER BY seq",
    columns: &[big("seq"), text("source"), text("id"), big("at"), json("body")],
    numbered: Some(("seq", "SELECT max(seq) FROM events")),
};

/// Claims are freed: who claimed is gone. The try counts, because the message may have left.
const OUTBOX: Table = Table {
    name: "outbox",
    select: "SELECT id, seq, ready_at, attempt, message FROM outbox ORDER BY seq",
    columns: &[id("id"), big("seq"), big("ready_at"), int("attempt"), json("message")],
    numbered: Some(("seq", "SELECT max(seq) FROM outbox")),
};

const DEAD_LETTERS: Table = Table {
    name: "dead_letters",
    select: "SELECT id, seq, origin, task, agent, reason, payload, created_at, state FROM dead_letters ORDER BY seq",
    columns: &[
        id("id"),
        big("seq"),
        small("origin"),
        id("task"),
        text("agent"),
        json("reason"),
        json("payload"),
        big("created_at"),
        small("state"),
    ],
    numbered: Some(("seq", "SELECT max(seq) FROM dead_letters")),
};

/// Recovery starts from workers, so the owners of what runs are moved, without their lock and their record: they count
/// as dead as soon as their last heartbeat is too old. Of one that was never registered the last claim is known, and the
/// time after it is not counted as running time of its tasks.
const WORKERS: Table = Table {
    name: "workers",
    select: "SELECT t.owner, coalesce(w.heartbeat_at, max(t.claimed_at)), 0, 0
             FROM tasks t LEFT JOIN workers w ON w.id = t.owner WHERE t.status = 1 GROUP BY t.owner",
    columns: &[id("id"), big("heartbeat_at"), flag("locked"), flag("gone")],
    numbered: None,
};

const VERSIONS: Table = Table {
    name: "versions",
    select: "SELECT agent, version, spec FROM versions ORDER BY agent, version",
    columns: &[text("agent"), text("version"), json("spec")],
    numbered: None,
};

const AGENT_STATUS: Table = Table {
    name: "agent_status",
    select: "SELECT agent, state, version, restarts, reason, since FROM agent_status ORDER BY agent",
    columns: &[
        text("agent"),
        text("state"),
        or_null(text("version")),
        big("restarts"),
        or_null(text("reason")),
        big("since"),
    ],
    numbered: None,
};

const API_KEYS: Table = Table {
    name: "api_keys",
    select: "SELECT id, hash, name, scope, created_at, expires_at, used_at, revoked_at FROM api_keys ORDER BY id",
    columns: &[
        id("id"),
        text("hash"),
        text("name"),
        small("scope"),
        big("created_at"),
        or_null(big("expires_at")),
        or_null(big("used_at")),
        or_null(big("revoked_at")),
    ],
    numbered: None,
};

const AUDIT: Table = Table {
    name: "audit",
    select: "SELECT id, body FROM audit ORDER BY id",
    columns: &[id("id"), json("body")],
    numbered: None,
};

impl Table {
    /// The names of its columns, by commas.
    pub(super) fn names(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }
}
