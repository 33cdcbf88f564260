-- Heartbeats are stamped by the clock of the server. A worker may declare others dead only after its own heartbeats have
-- come without a gap for a while: after a stall of the server every heartbeat is old.

ALTER TABLE workers ADD COLUMN steady_since bigint NOT NULL DEFAULT 0;  -- first heartbeat after the last gap
