-- The fleet of the deployment: which version of each agent it runs. Versions stay in `versions`; a row stays when its agent
-- is removed, so that what was accepted for it can still run. The largest revision is that of the fleet.

CREATE TABLE fleet (
    agent      TEXT PRIMARY KEY,
    version    TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    removed    INTEGER NOT NULL,            -- 1: takes no more work
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX fleet_revision ON fleet (revision);
