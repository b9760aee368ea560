-- Instants are whole microseconds since 1970, JSON is text, ids are 16 bytes. What each table and index is for
-- is said in the PostgreSQL migration of the same number.
-- What a build must know to decide whether it can serve this database.
CREATE TABLE schema_info (
    only_row integer PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    version integer NOT NULL,
    oldest_binary integer NOT NULL
) STRICT;
INSERT INTO schema_info (version, oldest_binary) VALUES (1, 1);

-- Every set of definitions that was ever in force; the last one is.
CREATE TABLE definition_sets (
    version integer PRIMARY KEY AUTOINCREMENT,
    digest text NOT NULL,
    revision integer,
    applied_at integer NOT NULL,
    applied_by text NOT NULL
) STRICT;
CREATE INDEX definition_sets_digest ON definition_sets (digest);

-- Every version of every job, as runs name the one that they ran.
CREATE TABLE job_versions (
    namespace text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    spec text NOT NULL,
    created_at integer NOT NULL,
    PRIMARY KEY (namespace, name, version)
) STRICT, WITHOUT ROWID;

-- Jobs in force.
CREATE TABLE jobs (
    namespace text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

-- Schedules in force, and how far each is decided.
CREATE TABLE schedules (
    namespace text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    spec text NOT NULL,
    cursor integer NOT NULL,
    next_due_at integer,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_due ON schedules (next_due_at) WHERE next_due_at IS NOT NULL;

-- The fire ledger: one decision per due time (I1). A stretch of skips is one row.
CREATE TABLE fires (
    namespace text NOT NULL,
    schedule text NOT NULL,
    origin text NOT NULL,
    due_at integer NOT NULL,
    last_due_at integer NOT NULL,
    count integer NOT NULL,
    reason text,
    detail text,
    work_requests text NOT NULL,
    version integer NOT NULL,
    decided_at integer NOT NULL,
    PRIMARY KEY (namespace, schedule, origin, due_at)
) STRICT, WITHOUT ROWID;

-- The durable record of each run.
CREATE TABLE work_requests (
    id blob PRIMARY KEY,
    namespace text NOT NULL,
    job text NOT NULL,
    job_version integer NOT NULL,
    queue text NOT NULL,
    schedule text,
    due_at integer,
    origin text,
    status text NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    input text NOT NULL,
    resource text,
    percent real NOT NULL DEFAULT 0,
    message text,
    error_code text,
    error_message text,
    output text,
    accepted_at integer NOT NULL,
    started_at integer,
    finished_at integer
) STRICT;
CREATE INDEX work_requests_newest ON work_requests (namespace, id DESC);
CREATE INDEX work_requests_of_job ON work_requests (namespace, job, id DESC);
CREATE INDEX work_requests_of_schedule ON work_requests (namespace, schedule, id DESC) WHERE schedule IS NOT NULL;

-- The delivery phase of each run that has not ended: a small hot table, whatever the history's size.
-- phase_at: due → when to send; sent → when sent; leased → the attempt's deadline.
CREATE TABLE deliveries (
    id blob PRIMARY KEY,
    namespace text NOT NULL,
    queue text NOT NULL,
    schedule text,
    phase text NOT NULL CHECK (phase IN ('due', 'sent', 'leased')),
    phase_at integer NOT NULL,
    sends integer NOT NULL DEFAULT 0,
    resends integer NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    token blob,
    worker blob,
    timeout_ms integer NOT NULL,
    seq integer NOT NULL
) STRICT;
CREATE INDEX deliveries_due ON deliveries (phase_at) WHERE phase = 'due';
CREATE INDEX deliveries_sent ON deliveries (phase_at) WHERE phase = 'sent';
CREATE INDEX deliveries_leased ON deliveries (worker) WHERE phase = 'leased';
CREATE INDEX deliveries_running ON deliveries (namespace, schedule) WHERE schedule IS NOT NULL;

-- The history of each run, numbered without gaps.
CREATE TABLE events (
    work_request_id blob NOT NULL,
    seq integer NOT NULL,
    at integer NOT NULL,
    what text NOT NULL,
    PRIMARY KEY (work_request_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (
    work_request_id blob NOT NULL,
    attempt integer NOT NULL,
    seq integer NOT NULL,
    at integer NOT NULL,
    stream text NOT NULL,
 text text NOT NULL,
    PRIMARY KEY (work_request_id, attempt, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    namespace text NOT NULL,
    key text NOT NULL,
    request_hash text NOT NULL,
    work_request_id blob NOT NULL,
    taken_at integer NOT NULL,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_age ON idempotency_keys (taken_at);

CREATE TABLE workers (
    incarnation blob PRIMARY KEY,
    name text NOT NULL,
    queues text NOT NULL,
    slots integer NOT NULL,
    version text NOT NULL,
    started_at integer NOT NULL,
    beat integer NOT NULL DEFAULT 0,
    beat_at integer NOT NULL,
    ended_at integer
) STRICT;

CREATE TABLE leader (
    only_row integer PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    holder blob,
    generation integer NOT NULL,
    expires_at integer NOT NULL
) STRICT;
INSERT INTO leader (generation, expires_at) VALUES (0, 0);
