-- What is said in the PostgreSQL migration of the same number holds here too, but that no other process is there.
UPDATE schema_info SET version = 8;

DROP TABLE idempotency_keys;
CREATE TABLE idempotent_requests (
    namespace text NOT NULL,
    caller text NOT NULL,
    operation text NOT NULL,
    key text NOT NULL,
    fields text NOT NULL,
    answer text NOT NULL,
    taken_at integer NOT NULL,
    PRIMARY KEY (namespace, caller, operation, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotent_requests_age ON idempotent_requests (taken_at);
