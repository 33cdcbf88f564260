-- Sessions of the dashboard. The token is only in the browser's cookie; from what is here no cookie can be made.

CREATE TABLE browser_sessions (
    hash       text   COLLATE "C" PRIMARY KEY, -- SHA-256 of the token, in hex
    key        uuid   NOT NULL,                -- the API key that it was opened with
    created_at bigint NOT NULL,
    ends_at    bigint NOT NULL
);

CREATE INDEX browser_sessions_key ON browser_sessions (key, created_at);
