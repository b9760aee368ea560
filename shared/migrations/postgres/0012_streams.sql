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
