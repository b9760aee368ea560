-- What is said in the PostgreSQL migration of the same number holds here too.
UPDATE schema_info SET version = 4;

-- SQLite changes a CHECK only with the table.
CREATE TABLE deliveries_4 (
    id blob PRIMARY KEY,
    namespace text NOT NULL,
    queue text NOT NULL,
    schedule text,
    origin text NOT NULL DEFAULT 'schedule',
    phase text NOT NULL CHECK (phase IN ('held', 'due', 'sent', 'leased', 'parked', 'children')),
    phase_at integer NOT NULL,
    sends integer NOT NULL DEFAULT 0,
    resends integer NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    token blob,
    worker blob,
    timeout_ms integer NOT NULL,
    seq integer NOT NULL,
    follow integer NOT NULL DEFAULT 0,
    priority integer NOT NULL DEFAULT 1,
    hold text CHECK (hold IN ('overlap', 'concurrency', 'rate')),
    concurrency_key text,
    rate_key text,
    expires_at integer,
    doubt integer NOT NULL DEFAULT 0,
    attempt_until integer,
    operation_token blob,
    operation text
) STRICT;
INSERT INTO deliveries_4 (id, namespace, queue, schedule, origin, phase, phase_at, sends, resends, attempt, failures, token, worker,
                          timeout_ms, seq, follow, priority, hold, concurrency_key, rate_key, expires_at, doubt)
SELECT id, namespace, queue, schedule, origin, phase, phase_at, sends, resends, attempt, failures, token, worker,
       timeout_ms, seq, follow, priority, hold, concurrency_key, rate_key, expires_at, doubt
FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_4 RENAME TO deliveries;
CREATE INDEX deliveries_due ON deliveries (priority, phase_at) WHERE phase = 'due';
CREATE INDEX deliveries_sent ON deliveries (queue, priority, phase_at) WHERE phase = 'sent';
CREATE INDEX deliveries_leased ON deliveries (worker) WHERE phase = 'leased';
CREATE INDEX deliveries_running ON deliveries (namespace, schedule) WHERE schedule IS NOT NULL;
CREATE INDEX deliveries_held ON deliveries (namespace, schedule) WHERE phase = 'held';
CREATE INDEX deliveries_limited ON deliveries (concurrency_key)
    WHERE concurrency_key IS NOT NULL AND phase IN ('sent', 'leased', 'parked');
CREATE INDEX deliveries_held_concurrency ON deliveries (concurrency_key, priority, id)
    WHERE phase = 'held' AND hold = 'concurrency';
CREATE INDEX deliveries_held_rate ON deliveries (rate_key, priority, id) WHERE phase = 'held' AND hold = 'rate';
CREATE INDEX deliveries_expiring ON deliveries (expires_at) WHERE expires_at IS NOT NULL AND attempt = 0;
CREATE INDEX deliveries_parked ON deliveries (phase_at) WHERE phase = 'parked';
CREATE INDEX deliveries_operations ON deliveries (attempt_until) WHERE operation_token IS NOT NULL;
CREATE TRIGGER deliveries_follow AFTER DELETE ON deliveries FOR EACH ROW WHEN old.follow
BEGIN
    INSERT INTO follow_ups (work_request_id) VALUES (old.id);
END;
