-- API keys and the audit log. Times are microseconds since the Unix epoch; ids are 16 bytes whose order is their age.

CREATE TABLE api_keys (
    id         BLOB    PRIMARY KEY,
    hash       TEXT    NOT NULL UNIQUE,     -- SHA-256 of the key, in hex
    name       TEXT    NOT NULL,
    scope      INTEGER NOT NULL,            -- 0 read, 1 run, 2 admin
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    used_at    INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id   BLOB PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
