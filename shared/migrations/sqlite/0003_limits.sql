-- What is said in the PostgreSQL migration of the same number holds here too.
UPDATE schema_info SET version = 3;

ALTER TABLE deliveries ADD COLUMN priority integer NOT NULL DEFAULT 1;
ALTER TABLE deliveries ADD COLUMN hold text CHECK (hold IN ('overlap', 'concurrency', 'rate'));
ALTER TABLE deliveries ADD COLUMN concurrency_key text;
ALTER TABLE deliveries ADD COLUMN rate_key text;
ALTER TABLE deliveries ADD COLUMN expires_at integer;
ALTER TABLE deliveries ADD COLUMN doubt integer NOT NULL DEFAULT 0;

DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (priority, phase_at) WHERE phase = 'due';
DROP INDEX deliveries_sent;
CREATE INDEX deliveries_sent ON deliveries (queue, priority, phase_at) WHERE phase = 'sent';
CREATE INDEX deliveries_limited ON deliveries (concurrency_key)
    WHERE concurrency_key IS NOT NULL AND phase IN ('sent', 'leased');
CREATE INDEX deliveries_held_concurrency ON deliveries (concurrency_key, priority, id)
    WHERE phase = 'held' AND hold = 'concurrency';
CREATE INDEX deliveries_held_rate ON deliveries (rate_key, priority, id) WHERE phase = 'held' AND hold = 'rate';
CREATE INDEX deliveries_expiring ON deliveries (expires_at) WHERE expires_at IS NOT NULL AND attempt = 0;

CREATE TABLE limits (
    key text PRIMARY KEY,
    most integer NOT NULL,
    period_ms integer,
    wake_at integer,
    used_at integer NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX limits_wake ON limits (wake_at) WHERE wake_at IS NOT NULL;

CREATE TABLE starts (
    key text NOT NULL,
    at integer NOT NULL,
    id blob NOT NULL
) STRICT;
CREATE INDEX starts_of ON starts (key, at);

CREATE TABLE unique_keys (
    key text PRIMARY KEY,
    work_request_id blob NOT NULL,
    ends_at integer
) STRICT, WITHOUT ROWID;

CREATE TABLE late_reports (
    work_request_id blob NOT NULL,
    token blob NOT NULL,
    at integer NOT NULL,
    outcome text NOT NULL,
    PRIMARY KEY (work_request_id, token)
) STRICT, WITHOUT ROWID;

CREATE TABLE markers (
    id blob PRIMARY KEY,
    queue text NOT NULL,
    priority integer NOT NULL,
    sent_at integer NOT NULL,
    back_at integer
) STRICT, WITHOUT ROWID;
CREATE INDEX markers_of ON markers (queue, priority, sent_at);

ALTER TABLE workers ADD COLUMN lease_ttl_ms integer NOT NULL DEFAULT 15000;
