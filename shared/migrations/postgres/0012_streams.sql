-- What happens to runs, in one order for all who listen.
UPDATE schema_info SET version = 12;

-- feed_open: somebody listens, or did not long ago. feed_heard_at: when anybody last said so. feed_floor: of what has higher
-- numbers than this nothing is missing.
ALTER TABLE schema_info
    ADD COLUMN feed_open     boolean     NOT NULL DEFAULT false,
    ADD COLUMN feed_heard_at timestamptz,
    ADD COLUMN feed_floor    bigint      NOT NULL DEFAULT 0;

-- Entries of histories. Those of one run have numbers in its own order, as who writes them holds its row locked. Numbers are
-- given before their transactions commit: see shared/src/store/feed.rs for who may read how far.
CREATE TABLE feed (
    number          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    work_request_id uuid    NOT NULL,
    seq             integer NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE FUNCTION put_in_feed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT feed_open FROM schema_info) THEN
        INSERT INTO feed (work_request_id, seq)
        SELECT work_request_id, seq FROM fresh ORDER BY work_request_id, seq;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_in_feed AFTER INSERT ON events
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION put_in_feed();

-- Lists. What a filter compares stands in the index that it is read by, so that what it passes over is not looked up. Nothing
-- of it changes during a run: its updates stay on their page.
DROP INDEX work_requests_newest;
CREATE INDEX work_requests_newest ON work_requests (namespace, id DESC, accepted_at);
DROP INDEX work_requests_of_job;
CREATE INDEX work_requests_of_job ON work_requests (namespace, job, id DESC, accepted_at);
DROP INDEX work_requests_of_schedule;
CREATE INDEX work_requests_of_schedule ON work_requests (namespace, schedule, id DESC, accepted_at, job)
    WHERE schedule IS NOT NULL;

-- Runs that have FAILED or were CANCELED: few among many, so that a list of them needs a place of its own. Written with their
-- end, by the database, so that no way of ending can forget.
CREATE TABLE unsuccessful (
    id          uuid        PRIMARY KEY,
    namespace   text        NOT NULL,
    job         text        NOT NULL,
    schedule    text,
    parent      uuid,
    status      text        NOT NULL,
    accepted_at timestamptz NOT NULL
);
INSERT INTO unsuccessful
SELECT id, namespace, job, schedule, parent, status, accepted_at
FROM work_requests WHERE status IN ('FAILED', 'CANCELED');
CREATE INDEX unsuccessful_newest ON unsuccessful (namespace, id DESC, status, accepted_at);
CREATE INDEX unsuccessful_of_job ON unsuccessful (namespace, job, id DESC, status, accepted_at);
CREATE INDEX unsuccessful_of_schedule ON unsuccessful (namespace, schedule, id DESC, status, accepted_at, job)
    WHERE schedule IS NOT NULL;
CREATE INDEX unsuccessful_children ON unsuccessful (parent, id DESC, status) WHERE parent IS NOT NULL;
CREATE FUNCTION note_unsuccessful() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unsuccessful (id, namespace, job, schedule, parent, status, accepted_at)
    VALUES (new.id, new.namespace, new.job, new.schedule, new.parent, new.status, new.accepted_at)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER work_requests_unsuccessful AFTER UPDATE OF status ON work_requests
    FOR EACH ROW WHEN (new.status IN ('FAILED', 'CANCELED')) EXECUTE FUNCTION note_unsuccessful();
