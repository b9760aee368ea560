-- Runs that call for others, their children, and end as these do.
UPDATE schema_info SET version = 6;

-- parent: the run that has called for this one. retry_of: the run of which this one does again what did not succeed.
ALTER TABLE work_requests
    ADD COLUMN parent   uuid,
    ADD COLUMN retry_of uuid;
CREATE INDEX work_requests_children ON work_requests (parent, id) WHERE parent IS NOT NULL;

-- One row for each run with children. job, job_version: what these run. batch: their inputs. born: how many were made;
-- those that have ended are counted in batches. stopped: why no more are made, if so.
CREATE TABLE fan_outs (
    parent       uuid        PRIMARY KEY,
    namespace    text        NOT NULL,
    job          text        NOT NULL,
    job_version  bigint      NOT NULL,
    policy       text        NOT NULL,
    depth        integer     NOT NULL,
    batch        uuid        NOT NULL UNIQUE,
    total        integer     NOT NULL,
    born         integer     NOT NULL DEFAULT 0,
    succeeded    integer     NOT NULL DEFAULT 0,
    failed       integer     NOT NULL DEFAULT 0,
    canceled     integer     NOT NULL DEFAULT 0,
    first_failed uuid,
    stopped      text        CHECK (stopped IN ('failed', 'canceled')),
    ended_at     timestamptz
) WITH (fillfactor = 50);
CREATE INDEX fan_outs_open ON fan_outs (parent) WHERE ended_at IS NULL;

-- Inputs of children that are not made yet, in chunks. The last thing that a chunk does is to become children: it is
-- deleted in the transaction that makes them. Chunks are written before the run that they belong to is accepted.
CREATE TABLE fan_out_inputs (
    batch     uuid        NOT NULL,
    chunk     integer     NOT NULL,
    inputs    jsonb       NOT NULL,
    count     integer     NOT NULL,
    staged_at timestamptz NOT NULL,
    PRIMARY KEY (batch, chunk)
);
CREATE INDEX fan_out_inputs_age ON fan_out_inputs (staged_at);

-- Children for which another run stands, as it is the same (unique): they end as it does.
CREATE TABLE fan_out_shared (
    work_request_id uuid    NOT NULL,
    parent          uuid    NOT NULL,
    children        integer NOT NULL,
    PRIMARY KEY (work_request_id, parent)
);
CREATE INDEX fan_out_shared_of ON fan_out_shared (parent);
