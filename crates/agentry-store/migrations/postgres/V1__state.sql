-- The first schema on PostgreSQL. Times are microseconds since the Unix epoch; ids are UUIDs (version 7) whose order is
-- their age; bodies are JSON text that the server never parses.
--
-- A task is three rows. `tasks` says what was asked and never changes; `open_tasks` is the hot, small row that moves
-- while the task is open and goes when it ends; `ended_tasks` says how it ended and never changes. So what grows is
-- only ever appended to, and what changes stays small enough to stay in memory.
--
-- No index of `open_tasks` names a column that changes with a claim or a step (not even in its predicate): such an
-- update is a heap-only one and touches no index at all. `lane` changes rarely and may be named.

CREATE TABLE tasks (
    id         uuid     PRIMARY KEY,
    created_at bigint   NOT NULL,
    ready_at   bigint   NOT NULL,           -- as accepted
    mode       smallint NOT NULL,
    rank       smallint NOT NULL,           -- 0 goes first
    agent      text     COLLATE "C" NOT NULL,
    session    text     COLLATE "C",
    body       text     NOT NULL
);

CREATE INDEX tasks_agent   ON tasks (agent, id);
CREATE INDEX tasks_session ON tasks (session, id) WHERE session IS NOT NULL;

CREATE TABLE open_tasks (
    id         uuid     PRIMARY KEY,
    owner      uuid,                        -- counts while running
    seq        bigint   NOT NULL GENERATED ALWAYS AS IDENTITY,
    ready_at   bigint   NOT NULL,
    claimed_at bigint   NOT NULL DEFAULT 0, -- counts while running
    started_at bigint   NOT NULL DEFAULT 0, -- counts when epoch > 0
    used_us    bigint   NOT NULL DEFAULT 0,
    attempt    integer  NOT NULL DEFAULT 1,
    epoch      integer  NOT NULL DEFAULT 0, -- 0: never claimed
    recoveries integer  NOT NULL DEFAULT 0,
    journal    integer  NOT NULL DEFAULT 0, -- number of the last entry
    questions  integer  NOT NULL DEFAULT 0, -- clarifications ever asked
    status     smallint NOT NULL DEFAULT 0, -- 0 queued, 1 running, 2 waiting
    mode       smallint NOT NULL,
    rank       smallint NOT NULL,
    lane       smallint NOT NULL,           -- 0 ready, 1 delayed (ready_at lies ahead), 2 parked (waits for a human)
    cancel     boolean  NOT NULL DEFAULT false,
    agent      text     COLLATE "C" NOT NULL,
    session    text     COLLATE "C",
    version    text
) WITH (
    fillfactor = 50,                        -- room for the claimed row beside the accepted one
    vacuum_truncate = off,                  -- it would lock the table, and the room is needed again
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_threshold = -1
);

-- Rows that run stay in these: a reader passes over them, which costs less than moving every row with every claim.
CREATE INDEX open_tasks_ready   ON open_tasks (mode, rank, seq) WHERE session IS NULL AND lane = 0;
CREATE INDEX open_tasks_delayed ON open_tasks (ready_at)        WHERE lane = 1;
CREATE INDEX open_tasks_inbox   ON open_tasks (session, seq)    WHERE session IS NOT NULL;

CREATE TABLE ended_tasks (
    id          uuid     PRIMARY KEY,
    owner       uuid,                       -- who ended it; NULL: nobody ran it
    ready_at    bigint   NOT NULL,
    started_at  bigint   NOT NULL,          -- counts when epoch > 0
    finished_at bigint   NOT NULL,
    used_us     bigint   NOT NULL,
    attempt     integer  NOT NULL,
    epoch       integer  NOT NULL,
    recoveries  integer  NOT NULL,
    status      smallint NOT NULL,
    cancel      boolean  NOT NULL,
    version     text,
    outcome     text     NOT NULL
);

-- Most tasks complete (3); the others are looked for.
CREATE INDEX ended_tasks_not_completed ON ended_tasks (status, id) WHERE status <> 3;

-- How many tasks stand where: each connection adds to a row of its own (by its process id), so that exact sums cost
-- neither a scan nor a lock that two could want. Rows of connections that are gone stay valid; `prune` folds them.
CREATE TABLE counters (
    pid     integer PRIMARY KEY,
    queued  bigint NOT NULL,
    running bigint NOT NULL,
    waiting bigint NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE journal (
    task    uuid    NOT NULL,
    seq     integer NOT NULL,
    attempt integer NOT NULL,
    at      bigint  NOT NULL,
    scope   text    NOT NULL,
    body    text    NOT NULL,
    PRIMARY KEY (task, seq)
);

CREATE TABLE ledger (
    task        uuid     NOT NULL,
    call        uuid     NOT NULL,
    at          bigint   NOT NULL,
    input       bigint   NOT NULL,
    cached      bigint   NOT NULL,
    output      bigint   NOT NULL,
    reasoning   bigint   NOT NULL,
    cost        bigint,                     -- NULL: unpriced
    duration_us bigint   NOT NULL,
    status      smallint NOT NULL,
    agent       text     COLLATE "C" NOT NULL,
    provider    text     COLLATE "C" NOT NULL,
    model       text     COLLATE "C" NOT NULL,
    PRIMARY KEY (task, call)
);

CREATE INDEX ledger_agent ON ledger (agent, at);

CREATE TABLE idempotency (
    key         text   COLLATE "C" PRIMARY KEY,
    task        uuid   NOT NULL,
    fingerprint bigint NOT NULL,
    created_at  bigint NOT NULL
);

CREATE INDEX idempotency_age ON idempotency USING brin (created_at);

CREATE TABLE sessions (
    id         text    COLLATE "C" PRIMARY KEY,
    seq        bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    agent      text    COLLATE "C" NOT NULL,
    fence      bigint  NOT NULL,
    owner      uuid,                        -- who claimed last
    held       boolean NOT NULL,            -- owner still has it
    messages   bigint  NOT NULL,
    turns      bigint  NOT NULL,
    summary    text,
    created_at bigint  NOT NULL,
    updated_at bigint  NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX sessions_touched       ON sessions (updated_at, seq);
CREATE INDEX sessions_agent_touched ON sessions (agent, updated_at, seq);

CREATE TABLE messages (
    session bigint NOT NULL,                -- sessions.seq
    number  bigint NOT NULL,
    task    uuid   NOT NULL,
    at      bigint NOT NULL,
    body    text   NOT NULL,
    PRIMARY KEY (session, number)
);

CREATE TABLE clarifications (
    id         uuid    PRIMARY KEY,
    task       uuid    NOT NULL,
    attempt    integer NOT NULL,
    expires_at bigint  NOT NULL,
    body       text    NOT NULL,
    resolution text
);

CREATE INDEX clarifications_task ON clarifications (task);
CREATE INDEX clarifications_open ON clarifications (id)         WHERE resolution IS NULL;
CREATE INDEX clarifications_due  ON clarifications (expires_at) WHERE resolution IS NULL;

CREATE TABLE schedules (
    name       text    COLLATE "C" PRIMARY KEY,
    agent      text    COLLATE "C" NOT NULL,
    from_file  boolean NOT NULL,
    spec       text    NOT NULL,
    paused     boolean NOT NULL,
    last_slot  bigint,
    missed     bigint  NOT NULL,
    skipped    bigint  NOT NULL,
    created_at bigint  NOT NULL
);

CREATE TABLE slots (
    schedule   text     COLLATE "C" NOT NULL,
    slot       bigint   NOT NULL,
    state      smallint NOT NULL,
    task       uuid,
    open       boolean  NOT NULL,           -- its task may not have ended
    decided_at bigint   NOT NULL,
    PRIMARY KEY (schedule, slot)
);

CREATE INDEX slots_open ON slots (schedule) WHERE open;

CREATE TABLE events (
    seq    bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text   COLLATE "C" NOT NULL,
    id     text   COLLATE "C" NOT NULL,
    at     bigint NOT NULL,
    body   text   NOT NULL,
    UNIQUE (source, id)
);

CREATE INDEX events_at ON events USING brin (at);

-- A claim changes no indexed column; what is claimed stays in `outbox_due` and is passed over.
CREATE TABLE outbox (
    id         uuid    PRIMARY KEY,
    seq        bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    ready_at   bigint  NOT NULL,
    attempt    integer NOT NULL,
    claimed_by uuid,
    message    text    NOT NULL
) WITH (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1
);

CREATE INDEX outbox_due ON outbox (ready_at, seq);

CREATE TABLE dead_letters (
    id         uuid     PRIMARY KEY,
    seq        bigint   NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    origin     smallint NOT NULL,
    task       uuid     NOT NULL,
    agent      text     COLLATE "C" NOT NULL,
    reason     text     NOT NULL,
    payload    text     NOT NULL,
    created_at bigint   NOT NULL,
    state      smallint NOT NULL
);

CREATE INDEX dead_letters_open ON dead_letters (seq) WHERE state = 0;

CREATE TABLE workers (
    id           uuid        PRIMARY KEY,
    heartbeat_at bigint      NOT NULL,      -- 0: it claimed before it was registered
    locked       boolean     NOT NULL,      -- it holds its advisory lock, as far as it knows
    gone         boolean     NOT NULL,      -- left or dead, and what it owned was queued again
    gone_at      timestamptz,               -- since when; the server's clock
    swept_at     timestamptz,               -- when its tasks were last looked for; the server's clock
    record       text                       -- NULL: never registered
) WITH (fillfactor = 50);

CREATE TABLE versions (
    agent   text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    spec    text NOT NULL,
    PRIMARY KEY (agent, version)
);

CREATE TABLE agent_status (
    agent    text    COLLATE "C" PRIMARY KEY,
    state    text    NOT NULL,
    version  text,
    restarts bigint  NOT NULL,
    reason   text,
    since    bigint  NOT NULL
);

-- Sums over all agents between two moments: the ledger only grows at its end, so a BRIN index, which costs an insert
-- nothing, finds them.
CREATE INDEX ledger_at ON ledger USING brin (at) WITH (autosummarize = on);
