-- The thread that a question was asked in, so that a reply there finds it: workspace/channel/ts, in Slack.

ALTER TABLE clarifications ADD COLUMN thread text COLLATE "C";

CREATE INDEX clarifications_thread ON clarifications (thread) WHERE thread IS NOT NULL;
