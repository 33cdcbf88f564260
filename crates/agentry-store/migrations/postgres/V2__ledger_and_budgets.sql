-- What a provider says of a call beyond tokens sent and received, and money that is set aside before it is spent.

ALTER TABLE ledger ADD COLUMN cache_write    bigint NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN cache_write_1h bigint NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN provider_call  text;  -- the provider's own name of the call

-- What an agent with a cap spent on a day, as the ledger said when it was last read. Its lock orders reservations.
CREATE TABLE budget_days (
    agent   text   COLLATE "C" PRIMARY KEY,
    day     bigint NOT NULL,                -- its first microsecond
    spent   bigint NOT NULL,
    read_at bigint NOT NULL
) WITH (fillfactor = 50);

-- What calls may cost that are under way: gone once the ledger has them and `budget_days` was read again.
CREATE TABLE reservations (
    call   uuid   PRIMARY KEY,
    task   uuid   NOT NULL,
    agent  text   COLLATE "C" NOT NULL,
    worker uuid   NOT NULL,
    amount bigint NOT NULL
);

CREATE INDEX reservations_agent ON reservations (agent);
