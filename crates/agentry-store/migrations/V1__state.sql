-- The first schema. Times are microseconds since the Unix epoch; ids are 16 bytes whose order is their age.
--
-- Rows of `tasks` keep their size from accept to end (columns that are set later hold a placeholder of the same width),
-- so that SQLite overwrites them in place; what is large or variable lives in tables of its own.

CREATE TABLE names (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE tasks (
    seq         INTEGER PRIMARY KEY,
    id          BLOB    NOT NULL UNIQUE,
    agent       INTEGER NOT NULL,           -- names.id
    mode        INTEGER NOT NULL,
    rank        INTEGER NOT NULL,           -- 0 goes first
    session     TEXT,
    status      INTEGER NOT NULL,
    delayed     INTEGER NOT NULL,           -- 1: ready_at lies ahead
    ready_at    INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,           -- 0: never claimed
    owner       BLOB    NOT NULL,           -- counts while running
    recoveries  INTEGER NOT NULL,
    version     INTEGER NOT NULL,           -- names.id; 0: none yet
    claimed_at  INTEGER NOT NULL,           -- counts while running
    started_at  INTEGER NOT NULL,           -- counts when epoch > 0
    finished_at INTEGER NOT NULL,           -- counts when ended
    used_us     INTEGER NOT NULL,
    cancel      INTEGER NOT NULL,
    journal     INTEGER NOT NULL,           -- number of the last entry
    questions   INTEGER NOT NULL            -- clarifications ever asked
) STRICT;

CREATE INDEX tasks_ready   ON tasks (mode, rank, seq) WHERE status = 0 AND session IS NULL AND delayed = 0;
CREATE INDEX tasks_delayed ON tasks (ready_at)        WHERE status = 0 AND delayed = 1;
CREATE INDEX tasks_running ON tasks (owner)           WHERE status = 1;
CREATE INDEX tasks_waiting ON tasks (seq)             WHERE status = 2;
CREATE INDEX tasks_inbox   ON tasks (session, seq)    WHERE session IS NOT NULL AND status < 3;
CREATE INDEX tasks_session ON tasks (session, seq)    WHERE session IS NOT NULL;
CREATE INDEX tasks_agent   ON tasks (agent, seq);

CREATE TABLE task_bodies (
    seq  INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE task_outcomes (
    seq     INTEGER PRIMARY KEY,
    outcome TEXT NOT NULL
) STRICT;

CREATE TABLE journal (
    task    INTEGER NOT NULL,               -- tasks.seq
    seq     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    scope   TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    task        INTEGER NOT NULL,           -- tasks.seq
    call        BLOB    NOT NULL,
    agent       INTEGER NOT NULL,           -- names.id
    provider    INTEGER NOT NULL,           -- names.id
    model       INTEGER NOT NULL,           -- names.id
    status      INTEGER NOT NULL,
    input       INTEGER NOT NULL,
    cached      INTEGER NOT NULL,
    output      INTEGER NOT NULL,
    reasoning   INTEGER NOT NULL,
    cost        INTEGER,                    -- NULL: unpriced
    at          INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    PRIMARY KEY (task, call)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_agent ON ledger (agent, at);

CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    fingerprint INTEGER NOT NULL,
    task        BLOB    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    seq        INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    agent      TEXT    NOT NULL,
    fence      INTEGER NOT NULL,
    owner      BLOB,                        -- who claimed last
    held       INTEGER NOT NULL,            -- 1: owner still has it
    messages   INTEGER NOT NULL,
    turns      INTEGER NOT NULL,
    summary    TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_touched       ON sessions (updated_at, seq);
CREATE INDEX sessions_agent_touched ON sessions (agent, updated_at, seq);

CREATE TABLE messages (
    session INTEGER NOT NULL,               -- sessions.seq
    number  INTEGER NOT NULL,
    task    BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE clarifications (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    task       INTEGER NOT NULL,            -- tasks.seq
    attempt    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    resolution TEXT
) STRICT;

CREATE INDEX clarifications_task ON clarifications (task);
CREATE INDEX clarifications_open ON clarifications (expires_at) WHERE resolution IS NULL;

CREATE TABLE schedules (
    name       TEXT PRIMARY KEY,
    agent      TEXT    NOT NULL,
    from_file  INTEGER NOT NULL,
    spec       TEXT    NOT NULL,
    paused     INTEGER NOT NULL,
    last_slot  INTEGER,
    missed     INTEGER NOT NULL,
    skipped    INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE slots (
    schedule   TEXT    NOT NULL,
    slot       INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    task       BLOB,
    open       INTEGER NOT NULL,            -- 1: its task may not have ended
    decided_at INTEGER NOT NULL,
    PRIMARY KEY (schedule, slot)
) STRICT, WITHOUT ROWID;

CREATE INDEX slots_open ON slots (schedule) WHERE open = 1;

CREATE TABLE events (
    seq    INTEGER PRIMARY KEY,
    source TEXT    NOT NULL,
    id     TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    body   TEXT    NOT NULL,
    UNIQUE (source, id)
) STRICT;

CREATE INDEX events_at ON events (at);

CREATE TABLE outbox (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    attempt    INTEGER NOT NULL,
    ready_at   INTEGER NOT NULL,
    claimed_by BLOB,
    message    TEXT    NOT NULL
) STRICT;

CREATE INDEX outbox_due     ON outbox (ready_at, seq) WHERE claimed_by IS NULL;
CREATE INDEX outbox_claimed ON outbox (claimed_by)    WHERE claimed_by IS NOT NULL;

CREATE TABLE dead_letters (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    origin     INTEGER NOT NULL,
    task       BLOB    NOT NULL,
    agent      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    payload    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    state      INTEGER NOT NULL
) STRICT;

CREATE INDEX dead_letters_open ON dead_letters (seq) WHERE state = 0;

CREATE TABLE workers (
    id           BLOB PRIMARY KEY,
    heartbeat_at INTEGER NOT NULL,
    record       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    agent   TEXT NOT NULL,
    version TEXT NOT NULL,
    spec    TEXT NOT NULL,
    PRIMARY KEY (agent, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE agent_status (
    agent    TEXT PRIMARY KEY,
    state    TEXT    NOT NULL,
    version  TEXT,
    restarts INTEGER NOT NULL,
    reason   TEXT,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
