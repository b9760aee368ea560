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

DROP INDEX work_requests_newest;
CREATE INDEX work_requests_newest ON work_requests (namespace, id DESC, accepted_at);
DROP INDEX work_requests_of_job;
CREATE INDEX work_requests_of_job ON work_requests (namespace, job, id DESC, accepted_at);
DROP INDEX work_requests_of_schedule;
CREATE INDEX work_requests_of_schedule ON work_requests (namespace, schedule, id DESC, accepted_at, job)
    WHERE schedule IS NOT NULL;

CREATE TABLE unsuccessful (
    id blob PRIMARY KEY,
    namespace text NOT NULL,
    job text NOT NULL,
    schedule text,
    parent blob,
    status text NOT NULL,
    accepted_at integer NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO unsuccessful
SELECT id, namespace, job, schedule, parent, status, accepted_at
FROM work_requests WHERE status IN ('FAILED', 'CANCELED');
CREATE INDEX unsuccessful_newest ON unsuccessful (namespace, id DESC, status, accepted_at);
CREATE INDEX unsuccessful_of_job ON unsuccessful (namespace, job, id DESC, status, accepted_at);
CREATE INDEX unsuccessful_of_schedule ON unsuccessful (namespace, schedule, id DESC, status, accepted_at, job)
    WHERE schedule IS NOT NULL;
CREATE INDEX unsuccessful_children ON unsuccessful (parent, id DESC, status) WHERE parent IS NOT NULL;
CREATE TRIGGER work_requests_unsuccessful AFTER UPDATE OF status ON work_requests
    WHEN new.status IN ('FAILED', 'CANCELED')
BEGIN
    INSERT OR IGNORE INTO unsuccessful (id, namespace, job, schedule, parent, status, accepted_at)
    VALUES (new.id, new.namespace, new.job, new.schedule, new.parent, new.status, new.accepted_at);
END;
