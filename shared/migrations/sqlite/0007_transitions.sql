-- What is said in the PostgreSQL migration of the same number holds here too.
UPDATE schema_info SET version = 7;

ALTER TABLE schema_info ADD COLUMN transitions integer NOT NULL DEFAULT 0;

CREATE TABLE outbox (
    number integer PRIMARY KEY AUTOINCREMENT,
    work_request_id blob NOT NULL,
    seq integer NOT NULL
) STRICT;
CREATE TRIGGER events_out AFTER INSERT ON events FOR EACH ROW WHEN (SELECT transitions FROM schema_info)
BEGIN
    INSERT INTO outbox (work_request_id, seq) VALUES (new.work_request_id, new.seq);
END;
