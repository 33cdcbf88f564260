-- The fleet of the deployment: which version of each agent it runs. Versions stay in `versions`; a row stays when its agent
-- is removed, so that what was accepted for it can still run.

CREATE TABLE fleet (
    agent      text    COLLATE "C" PRIMARY KEY,
    version    text    COLLATE "C" NOT NULL,
    revision   bigint  NOT NULL,
    removed    boolean NOT NULL,            -- takes no more work
    changed_at bigint  NOT NULL
);

CREATE INDEX fleet_by_revision ON fleet (revision);

-- One row: changes of the fleet lock it, so that they have one order.
CREATE TABLE fleet_revision (
    revision bigint NOT NULL
);

INSERT INTO fleet_revision (revision) VALUES (0);
