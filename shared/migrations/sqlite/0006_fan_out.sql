-- What is said in the PostgreSQL migration of the same number holds here too.
UPDATE schema_info SET version = 6;

ALTER TABLE work_requests ADD COLUMN parent blob;
ALTER TABLE work_requests ADD COLUMN retry_of blob;
CREATE INDEX work_requests_children ON work_requests (parent, id) WHERE parent IS NOT NULL;

CREATE TABLE fan_outs (
    parent blob PRIMARY KEY,
    namespace text NOT NULL,
    job text NOT NULL,
    job_version integer NOT NULL,
    policy text NOT NULL,
    depth integer NOT NULL,
    batch blob NOT NULL UNIQUE,
    total integer NOT NULL,
    born integer NOT NULL DEFAULT 0,
    succeeded integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    canceled integer NOT NULL DEFAULT 0,
    first_failed blob,
    stopped text CHECK (stopped IN ('failed', 'canceled')),
    ended_at integer
) STRICT, WITHOUT ROWID;
CREATE INDEX fan_outs_open ON fan_outs (parent) WHERE ended_at IS NULL;

CREATE TABLE fan_out_inputs (
    batch blob NOT NULL,
    chunk integer NOT NULL,
    inputs text NOT NULL,
    count integer NOT NULL,
    staged_at integer NOT NULL,
    PRIMARY KEY (batch, chunk)
) STRICT;
CREATE INDEX fan_out_inputs_age ON fan_out_inputs (staged_at);

CREATE TABLE fan_out_shared (
    work_request_id blob NOT NULL,
    parent blob NOT NULL,
    children integer NOT NULL,
    PRIMARY KEY (work_request_id, parent)
) STRICT, WITHOUT ROWID;
CREATE INDEX fan_out_shared_of ON fan_out_shared (parent);
