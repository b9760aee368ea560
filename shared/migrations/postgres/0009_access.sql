-- API keys, and changes of everything that people change.
UPDATE schema_info SET version = 9;

-- hash: of the secret, which is kept nowhere; previous_hash is as good until previous_until. access: role, namespaces, jobs.
CREATE TABLE api_keys (
    prefix         text        PRIMARY KEY,
    name           text        NOT NULL,
    access         jsonb       NOT NULL,
    hash           text        NOT NULL,
    previous_hash  text,
    previous_until timestamptz,
    version        bigint      NOT NULL,
    created_at     timestamptz NOT NULL,
    created_by     text        NOT NULL,
    expires_at     timestamptz,
    revoked_at     timestamptz,
    last_used_at   timestamptz
);

-- What belongs to no namespace, or to several, is under '*'.
ALTER TABLE changes DROP CONSTRAINT changes_kind_check;
ALTER TABLE changes ADD CONSTRAINT changes_kind_check CHECK (kind IN ('job', 'schedule', 'key', 'webhook'));
CREATE INDEX changes_recent ON changes (namespace, seq);
