-- What is said in the PostgreSQL migration of the same number holds here too; here nobody ever holds a backlog.
UPDATE schema_info SET version = 14;

CREATE TABLE backlog (
    only_row integer PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    holder blob,
    held_until integer NOT NULL DEFAULT 0
) STRICT;
INSERT INTO backlog DEFAULT VALUES;

DROP INDEX work_requests_newest;
CREATE INDEX work_requests_newest ON work_requests (namespace, id, accepted_at);
DROP INDEX work_requests_of_job;
CREATE INDEX work_requests_of_job ON work_requests (namespace, job, id, accepted_at);
DROP INDEX work_requests_of_schedule;
CREATE INDEX work_requests_of_schedule ON work_requests (namespace, schedule, id, accepted_at, job)
    WHERE schedule IS NOT NULL;
