-- What changes a schedule takes the next revision, so that a process sees by one number that nothing has changed.
-- Deciding slots is no change.

CREATE TABLE schedule_revision (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL               -- the last one given
) STRICT;

INSERT INTO schedule_revision (one, revision) VALUES (1, 1);

ALTER TABLE schedules ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;

CREATE INDEX schedules_revision ON schedules (revision);
