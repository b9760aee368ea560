-- What is said in the PostgreSQL migration of the same number holds here too; who writes does so alone, so that numbers are in
-- the order of commits.
UPDATE schema_info SET version = 12;

ALTER TABLE schema_info ADD COLUMN feed_open integer NOT NULL DEFAULT 0;
ALTER TABLE schema_info ADD COLUMN feed_heard_at integer;
ALTER TABLE schema_info ADD COLUMN feed_floor integer NOT NULL DEFAULT 0;

CREATE TABLE feed (
    number integer PRIMARY KEY AUTOINCREMENT,
    work_request_id blob NOT NULL,
    seq integer NOT NULL
) STRICT;
CREATE TRIGGER events_in_feed AFTER INSERT ON events FOR EACH ROW WHEN (SELECT feed_open FROM schema_info)
BEGIN
    INSERT INTO feed (work_request_id, seq) VALUES (new.work_request_id, new.seq);
END;
