-- What decides which run goes next, and what becomes of attempts that are lost.
UPDATE schema_info SET version = 3;

-- priority: 0 goes first. hold: for what a held run waits; NULL as before this schema: for runs of earlier fires.
-- concurrency_key, rate_key: names in limits. expires_at: not started by then, it FAILS. doubt: an attempt was lost, and
-- whether it took effect is asked before anything else.
ALTER TABLE deliveries
    ADD COLUMN priority        smallint NOT NULL DEFAULT 1,
    ADD COLUMN hold            text CHECK (hold IN ('overlap', 'concurrency', 'rate')),
    ADD COLUMN concurrency_key text,
    ADD COLUMN rate_key        text,
    ADD COLUMN expires_at      timestamptz,
    ADD COLUMN doubt           boolean  NOT NULL DEFAULT false;

DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (priority, phase_at) WHERE phase = 'due';
DROP INDEX deliveries_sent;
CREATE INDEX deliveries_sent ON deliveries (queue, priority, phase_at) WHERE phase = 'sent';
-- A slot of a limit is taken when the trigger is sent, and free again when the lease has ended.
CREATE INDEX deliveries_limited ON deliveries (concurrency_key)
    WHERE concurrency_key IS NOT NULL AND phase IN ('sent', 'leased');
CREATE INDEX deliveries_held_concurrency ON deliveries (concurrency_key, priority, id)
    WHERE phase = 'held' AND hold = 'concurrency';
CREATE INDEX deliveries_held_rate ON deliveries (rate_key, priority, id) WHERE phase = 'held' AND hold = 'rate';
CREATE INDEX deliveries_expiring ON deliveries (expires_at) WHERE expires_at IS NOT NULL AND attempt = 0;

-- How many runs may be under way at one time (period_ms IS NULL), or may start within a time. Whoever counts locks the row.
-- wake_at: when a held run may go on; NULL if none is known to wait.
CREATE TABLE limits (
    key       text        PRIMARY KEY,
    most      bigint      NOT NULL,
    period_ms bigint,
    wake_at   timestamptz,
    used_at   timestamptz NOT NULL
);
CREATE INDEX limits_wake ON limits (wake_at) WHERE wake_at IS NOT NULL;

-- The starts that count against a rate.
CREATE TABLE starts (
    key text        NOT NULL,
    at  timestamptz NOT NULL,
    id  uuid        NOT NULL
);
CREATE INDEX starts_of ON starts (key, at);

-- Which run stands for all that are the same. ends_at: of those that are the same for a time.
CREATE TABLE unique_keys (
    key             text        PRIMARY KEY,
    work_request_id uuid        NOT NULL,
    ends_at         timestamptz
);

-- What workers have reported under leases that had ended: evidence, outside of the history.
CREATE TABLE late_reports (
    work_request_id uuid        NOT NULL,
    token           uuid        NOT NULL,
    at              timestamptz NOT NULL,
    outcome         jsonb       NOT NULL,
    PRIMARY KEY (work_request_id, token)
);

-- Messages that go through a queue to show what was before them has come through too.
CREATE TABLE markers (
    id       uuid        PRIMARY KEY,
    queue    text        NOT NULL,
    priority smallint    NOT NULL,
    sent_at  timestamptz NOT NULL,
    back_at  timestamptz
);
CREATE INDEX markers_of ON markers (queue, priority, sent_at);

-- How long a worker may be unheard before its leases end.
ALTER TABLE workers ADD COLUMN lease_ttl_ms bigint NOT NULL DEFAULT 15000;
