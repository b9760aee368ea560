-- What is said in the PostgreSQL migration of the same number holds here too.
UPDATE schema_info SET version = 5;

ALTER TABLE workers ADD COLUMN kind text NOT NULL DEFAULT 'reveille' CHECK (kind IN ('reveille', 'external'));

CREATE TABLE external_leases (
    work_request_id blob NOT NULL,
    token blob NOT NULL,
    worker blob NOT NULL,
    attempt integer NOT NULL,
    lease_ms integer NOT NULL,
    retry text NOT NULL,
    ended text CHECK (ended IN ('succeeded', 'failed', 'canceled', 'released')),
    words_at integer,
    words_id text,
    output text,
    output_at integer,
    output_id text,
    has_own integer NOT NULL DEFAULT 0,
    PRIMARY KEY (work_request_id, token)
) STRICT, WITHOUT ROWID;

CREATE TABLE seen_events (
    work_request_id blob NOT NULL,
    source text NOT NULL,
    id text NOT NULL,
    at integer NOT NULL,
    PRIMARY KEY (work_request_id, source, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_events_age ON seen_events (at);

CREATE TABLE refused_events (
    seq integer PRIMARY KEY AUTOINCREMENT,
    fingerprint text NOT NULL UNIQUE,
    via text NOT NULL,
    code text NOT NULL,
    message text NOT NULL,
    source text,
    id text,
    kind text,
    subject text,
    namespace text,
    first_at integer NOT NULL,
    last_at integer NOT NULL,
    count integer NOT NULL
) STRICT;
CREATE INDEX refused_events_age ON refused_events (last_at);
