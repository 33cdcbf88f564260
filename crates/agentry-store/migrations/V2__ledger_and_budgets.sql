-- What a provider says of a call beyond tokens sent and received, and money that is set aside before it is spent.

ALTER TABLE ledger ADD COLUMN cache_write    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN cache_write_1h INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN provider_call  TEXT;  -- the provider's own name of the call

-- What an agent with a cap spent on a day, as the ledger said when it was last read.
CREATE TABLE budget_days (
    agent   TEXT PRIMARY KEY,
    day     INTEGER NOT NULL,               -- its first microsecond
    spent   INTEGER NOT NULL,
    read_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What calls may cost that are under way: gone once the ledger has them and `budget_days` was read again.
CREATE TABLE reservations (
    call   BLOB PRIMARY KEY,
    task   BLOB    NOT NULL,
    agent  TEXT    NOT NULL,
    worker BLOB    NOT NULL,
    amount INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX reservations_agent ON reservations (agent);
