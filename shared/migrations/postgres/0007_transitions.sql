-- What happens to runs, told to whoever wants to know.
UPDATE schema_info SET version = 7;

-- Whether what happens is to be told outside.
ALTER TABLE schema_info ADD COLUMN transitions boolean NOT NULL DEFAULT false;

-- Entries of histories that are to be told. A trigger of the database writes them with the entries themselves, so that no
-- build can forget one. Those of one run have numbers in its own order, as who writes them holds its row locked.
CREATE TABLE outbox (
    number          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    work_request_id uuid    NOT NULL,
    seq             integer NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE FUNCTION put_in_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT transitions FROM schema_info) THEN
        INSERT INTO outbox (work_request_id, seq)
        SELECT work_request_id, seq FROM fresh ORDER BY work_request_id, seq;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_out AFTER INSERT ON events
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION put_in_outbox();
