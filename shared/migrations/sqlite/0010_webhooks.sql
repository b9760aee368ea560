-- What is said in the PostgreSQL migration of the same number holds here too.
UPDATE schema_info SET version = 10;

ALTER TABLE schema_info ADD COLUMN webhooks text NOT NULL DEFAULT 'none' CHECK (webhooks IN ('none', 'ends', 'all'));

CREATE TABLE webhooks (
    id blob PRIMARY KEY,
    namespace text NOT NULL,
    url text NOT NULL,
    description text,
    filter text NOT NULL,
    secret blob NOT NULL,
    old_secret blob,
    old_until integer,
    version integer NOT NULL,
    created_at integer NOT NULL,
    failing_since integer,
    disabled_at integer,
    disabled_reason text,
    deleted_at integer
) STRICT;
CREATE INDEX webhooks_of_namespace ON webhooks (namespace, id) WHERE deleted_at IS NULL;

CREATE TABLE webhook_outbox (
    number integer PRIMARY KEY AUTOINCREMENT,
    work_request_id blob NOT NULL,
    seq integer NOT NULL
) STRICT;

CREATE TABLE webhook_deliveries (
    webhook_id blob NOT NULL,
    id blob NOT NULL,
    work_request_id blob NOT NULL,
    seq integer NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    created_at integer NOT NULL,
    queued_at integer NOT NULL,
    due_at integer,
    claim blob,
    tries integer NOT NULL DEFAULT 0,
    attempts text NOT NULL DEFAULT '[]',
    ended_at integer,
    PRIMARY KEY (webhook_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_deliveries_of_run ON webhook_deliveries (webhook_id, work_request_id, seq) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_undelivered ON webhook_deliveries (webhook_id, id) WHERE state <> 'delivered';

CREATE TRIGGER events_to_webhooks AFTER INSERT ON events FOR EACH ROW
WHEN (SELECT webhooks = 'all' OR webhooks = 'ends' AND new.what ->> 'type' IN ('succeeded', 'failed', 'canceled') FROM schema_info)
BEGIN
    INSERT INTO webhook_outbox (work_request_id, seq) VALUES (new.work_request_id, new.seq);
END;
