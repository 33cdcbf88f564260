-- What changes a schedule takes the next revision, so that a process sees by one number that nothing has changed.
-- Deciding slots is no change. The row is locked until the change is committed: whoever reads a revision sees every
-- change up to it.

CREATE TABLE schedule_revision (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint  NOT NULL               -- the last one given
);

INSERT INTO schedule_revision (revision) VALUES (1);

ALTER TABLE schedules ADD COLUMN revision bigint NOT NULL DEFAULT 1;

CREATE INDEX schedules_revision ON schedules (revision);
