-- API keys, and changes of everything that people change. See the file of the same number for PostgreSQL.
UPDATE schema_info SET version = 9;

CREATE TABLE api_keys (
    prefix text PRIMARY KEY,
    name text NOT NULL,
    access text NOT NULL,
    hash text NOT NULL,
    previous_hash text,
    previous_until integer,
    version integer NOT NULL,
    created_at integer NOT NULL,
    created_by text NOT NULL,
    expires_at integer,
    revoked_at integer,
    last_used_at integer
) STRICT, WITHOUT ROWID;

-- A constraint can't be changed in place.
CREATE TABLE changes_of_all (
    seq integer PRIMARY KEY AUTOINCREMENT,
    namespace text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('job', 'schedule', 'key', 'webhook')),
    name text NOT NULL,
    version integer NOT NULL,
    action text NOT NULL,
    at integer NOT NULL,
    actor text NOT NULL,
    reason text,
    spec text
) STRICT;
INSERT INTO changes_of_all (seq, namespace, kind, name, version, action, at, actor, reason, spec)
SELECT seq, namespace, kind, name, version, action, at, actor, reason, spec FROM changes;
DROP TABLE changes;
ALTER TABLE changes_of_all RENAME TO changes;
CREATE INDEX changes_of ON changes (namespace, kind, name, seq);
CREATE INDEX changes_recent ON changes (namespace, seq);
