-- What a build must know to decide whether it can serve this database.
CREATE TABLE schema_info (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version       bigint  NOT NULL,
    oldest_binary bigint  NOT NULL
);
INSERT INTO schema_info (version, oldest_binary) VALUES (1, 1);

-- Every set of definitions that was ever in force; the last one is.
CREATE TABLE definition_sets (
    version    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     text        NOT NULL,
    revision   bigint,
    applied_at timestamptz NOT NULL,
    applied_by text        NOT NULL
);
CREATE INDEX definition_sets_digest ON definition_sets (digest);

-- Every version of every job, as runs name the one that they ran.
CREATE TABLE job_versions (
    namespace  text        NOT NULL,
    name       text        NOT NULL,
    version    bigint      NOT NULL,
    spec       jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, name, version)
);

-- Jobs in force.
CREATE TABLE jobs (
    namespace text   NOT NULL,
    name      text   NOT NULL,
    version   bigint NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- Schedules in force, and how far each is decided.
CREATE TABLE schedules (
    namespace   text        NOT NULL,
    name        text        NOT NULL,
    version     bigint      NOT NULL,
    spec        jsonb       NOT NULL,
    cursor      timestamptz NOT NULL,
    next_due_at timestamptz,
    PRIMARY KEY (namespace, name)
);
CREATE INDEX schedules_due ON schedules (next_due_at) WHERE next_due_at IS NOT NULL;

-- The fire ledger: one decision per due time (I1). A stretch of skips is one row.
CREATE TABLE fires (
    namespace     text        NOT NULL,
    schedule      text        NOT NULL,
    origin        text        NOT NULL,
    due_at        timestamptz NOT NULL,
    last_due_at   timestamptz NOT NULL,
    count         bigint      NOT NULL,
    reason        text,
    detail        text,
    work_requests jsonb       NOT NULL,
    version       bigint      NOT NULL,
    decided_at    timestamptz NOT NULL,
    PRIMARY KEY (namespace, schedule, origin, due_at)
);

-- The durable record of each run. No index on what changes during a run, so that its updates stay
-- on their page (HOT) and cost no index writes.
CREATE TABLE work_requests (
    id            uuid             PRIMARY KEY,
    namespace     text             NOT NULL,
    job           text             NOT NULL,
    job_version   bigint           NOT NULL,
    queue         text             NOT NULL,
    schedule      text,
    due_at        timestamptz,
    origin        text,
    status        text             NOT NULL,
    attempt       integer          NOT NULL DEFAULT 0,
    input         jsonb            NOT NULL,
    resource      jsonb,
    percent       double precision NOT NULL DEFAULT 0,
    message       text,
    error_code    text,
    error_message text,
    output        jsonb,
    accepted_at   timestamptz      NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz
) WITH (fillfactor = 70);
CREATE INDEX work_requests_newest ON work_requests (namespace, id DESC);
CREATE INDEX work_requests_of_job ON work_requests (namespace, job, id DESC);
CREATE INDEX work_requests_of_schedule ON work_requests (namespace, schedule, id DESC) WHERE schedule IS NOT NULL;

-- The delivery phase of each run that has not ended: a small hot table, whatever the history's size.
-- phase_at: due → when to send; sent → when sent; leased → the attempt's deadline.
-- No foreign key: rows are written in the same transaction, and its check costs a tenth of the throughput.
CREATE TABLE deliveries (
    id         uuid        PRIMARY KEY,
    namespace  text        NOT NULL,
    queue      text        NOT NULL,
    schedule   text,
    phase      text        NOT NULL CHECK (phase IN ('due', 'sent', 'leased')),
    phase_at   timestamptz NOT NULL,
    sends      integer     NOT NULL DEFAULT 0,
    resends    integer     NOT NULL DEFAULT 0,
    attempt    integer     NOT NULL DEFAULT 0,
    failures   integer     NOT NULL DEFAULT 0,
    token      uuid,
    worker     uuid,
    timeout_ms bigint      NOT NULL,
    seq        integer     NOT NULL
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX deliveries_due ON deliveries (phase_at) WHERE phase = 'due';
CREATE INDEX deliveries_sent ON deliveries (phase_at) WHERE phase = 'sent';
CREATE INDEX deliveries_leased ON deliveries (worker) WHERE phase = 'leased';
CREATE INDEX deliveries_running ON deliveries (namespace, schedule) WHERE schedule IS NOT NULL;

-- The history of each run, numbered without gaps.
CREATE TABLE events (
    work_request_id uuid        NOT NULL,
    seq             integer     NOT NULL,
    at              timestamptz NOT NULL,
    what            jsonb       NOT NULL,
    PRIMARY KEY (work_request_id, seq)
);

CREATE TABLE logs (
    work_request_id uuid        NOT NULL,
    attempt         integer     NOT NULL,
    seq             integer     NOT NULL,
    at              timestamptz NOT NULL,
    stream          text        NOT NULL,
    text            text        NOT NULL,
    PRIMARY KEY (work_request_id, attempt, seq)
);

CREATE TABLE idempotency_keys (
    namespace       text        NOT NULL,
    key             text        NOT NULL,
    request_hash    text        NOT NULL,
    work_request_id uuid        NOT NULL,
    taken_at        timestamptz NOT NULL,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (taken_at);

CREATE TABLE workers (
    incarnation uuid        PRIMARY KEY,
    name        text        NOT NULL,
    queues      jsonb       NOT NULL,
    slots       integer     NOT NULL,
    version     text        NOT NULL,
    started_at  timestamptz NOT NULL,
    beat        bigint      NOT NULL DEFAULT 0,
    beat_at     timestamptz NOT NULL,
    ended_at    timestamptz
);

CREATE TABLE leader (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    holder     uuid,
    generation bigint      NOT NULL,
    expires_at timestamptz NOT NULL
);
INSERT INTO leader (generation, expires_at) VALUES (0, '-infinity');

-- Stable views for dashboards that read the database: columns are only ever added.
CREATE VIEW run_history AS
SELECT w.id,
       w.namespace,
       w.job,
       w.job_version,
       w.queue,
       w.schedule,
       w.due_at        AS scheduled_for,
       w.status,
       w.attempt       AS attempts,
       w.percent       AS percent_complete,
       w.error_code,
       w.error_message,
       w.accepted_at,
       w.started_at,
       w.finished_at,
       extract(epoch FROM w.started_at - w.accepted_at)::double precision AS wait_seconds,
       extract(epoch FROM w.finished_at - w.started_at)::double precision AS run_seconds
FROM work_requests w;
COMMENT ON VIEW run_history IS 'Stable: one row per work request. Columns are only ever added.';

CREATE VIEW fire_history AS
SELECT f.namespace,
       f.schedule,
       f.origin,
       f.due_at,
       f.last_due_at,
       f.count                                                    AS due_times,
       CASE WHEN f.reason IS NULL THEN 'triggered' ELSE 'skipped' END AS outcome,
       f.reason,
       f.detail,
       f.work_requests,
       f.version                                                  AS schedule_version,
       f.decided_at,
       extract(epoch FROM f.decided_at - f.due_at)::double precision  AS lateness_seconds
FROM fires f;
COMMENT ON VIEW fire_history IS 'Stable: one row per decision on a due time or a stretch of skipped ones. Columns are only ever added.';
