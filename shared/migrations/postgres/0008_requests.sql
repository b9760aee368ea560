-- Requests that may be repeated, whatever they start.
UPDATE schema_info SET version = 8;

-- In place of idempotency_keys, which stays for schedulers of schema 7 that run beside this one during an upgrade.
-- operation: the method, and the path with its parameters. fields: hashes of what was asked, by name. answer: what it has
-- come to: the id of a work request or of a backfill, or the due time of a fire by hand.
CREATE TABLE idempotent_requests (
    namespace text        NOT NULL,
    caller    text        NOT NULL,
    operation text        NOT NULL,
    key       text        NOT NULL,
    fields    jsonb       NOT NULL,
    answer    text        NOT NULL,
    taken_at  timestamptz NOT NULL,
    PRIMARY KEY (namespace, caller, operation, key)
);
CREATE INDEX idempotent_requests_age ON idempotent_requests (taken_at);
