-- API keys and the audit log. Times are microseconds since the Unix epoch; ids are UUIDs (version 7) whose order is
-- their age; bodies are JSON text that the server never parses.

CREATE TABLE api_keys (
    id         uuid     PRIMARY KEY,
    hash       text     COLLATE "C" NOT NULL UNIQUE, -- SHA-256 of the key, in hex
    name       text     NOT NULL,
    scope      smallint NOT NULL,           -- 0 read, 1 run, 2 admin
    created_at bigint   NOT NULL,
    expires_at bigint,
    used_at    bigint,
    revoked_at bigint
);

CREATE TABLE audit (
    id   uuid PRIMARY KEY,
    body text NOT NULL
);
