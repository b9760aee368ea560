-- What happens to runs, posted to whoever has subscribed.
UPDATE schema_info SET version = 10;

-- Which entries of histories subscribers may want: none, those that end a run, or all.
ALTER TABLE schema_info ADD COLUMN webhooks text NOT NULL DEFAULT 'none' CHECK (webhooks IN ('none', 'ends', 'all'));

-- Subscriptions. filter: {"jobs": […], "schedules": […], "statuses": […]}. secret: encrypted. One that is deleted stays
-- until its deliveries, which may be many, are deleted too.
CREATE TABLE webhooks (
    id              uuid        PRIMARY KEY,
    namespace       text        NOT NULL,
    url             text        NOT NULL,
    description     text,
    filter          jsonb       NOT NULL,
    secret          bytea       NOT NULL,
    old_secret      bytea,
    old_until       timestamptz,
    version         bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    failing_since   timestamptz,
    disabled_at     timestamptz,
    disabled_reason text,
    deleted_at      timestamptz
);
CREATE INDEX webhooks_of_namespace ON webhooks (namespace, id) WHERE deleted_at IS NULL;

-- Entries for which it is not known yet who wants them; as `outbox`.
CREATE TABLE webhook_outbox (
    number          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    work_request_id uuid    NOT NULL,
    seq             integer NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

-- One entry for one subscription. due_at: when it is to be tried next, or while it is being tried when whoever does so is
-- taken for dead; none while an earlier entry of the same run is pending, and none at its end. claim: who tries it.
-- tries: since queued_at, from which it counts when to give up. attempts: what came of the last ones.
CREATE TABLE webhook_deliveries (
    webhook_id      uuid        NOT NULL,
    id              uuid        NOT NULL,
    work_request_id uuid        NOT NULL,
    seq             integer     NOT NULL,
    state           text        NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    created_at      timestamptz NOT NULL,
    queued_at       timestamptz NOT NULL,
    due_at          timestamptz,
    claim           uuid,
    tries           integer     NOT NULL DEFAULT 0,
    attempts        jsonb       NOT NULL DEFAULT '[]',
    ended_at        timestamptz,
    PRIMARY KEY (webhook_id, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_deliveries_of_run ON webhook_deliveries (webhook_id, work_request_id, seq) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_undelivered ON webhook_deliveries (webhook_id, id) WHERE state <> 'delivered';

CREATE OR REPLACE FUNCTION put_in_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wanted record;
BEGIN
    SELECT transitions, webhooks INTO wanted FROM schema_info;
    IF wanted.transitions THEN
        INSERT INTO outbox (work_request_id, seq)
        SELECT work_request_id, seq FROM fresh ORDER BY work_request_id, seq;
    END IF;
    IF wanted.webhooks <> 'none' THEN
        INSERT INTO webhook_outbox (work_request_id, seq)
        SELECT work_request_id, seq FROM fresh
        WHERE wanted.webhooks = 'all' OR what ->> 'type' IN ('succeeded', 'failed', 'canceled')
        ORDER BY work_request_id, seq;
    END IF;
    RETURN NULL;
END
$$;
