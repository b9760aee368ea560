-- One dispatcher at a time publishes a backlog; lists are read from the ends of their indexes.
UPDATE schema_info SET version = 14;

-- Who does, and until when: what it publishes is not marked as sent, and another one would publish it once more. That is all that
-- depends on this row; whoever claims first has the run.
CREATE TABLE backlog (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    holder     uuid,
    held_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO backlog DEFAULT VALUES;

-- Ids grow: in this order a new one goes to the end of its index, for which there is a short way, and leaves full pages behind it;
-- lists of the newest read it backwards. In the other order these indexes were almost twice as large.
DROP INDEX work_requests_newest;
CREATE INDEX work_requests_newest ON work_requests (namespace, id, accepted_at);
DROP INDEX work_requests_of_job;
CREATE INDEX work_requests_of_job ON work_requests (namespace, job, id, accepted_at);
DROP INDEX work_requests_of_schedule;
CREATE INDEX work_requests_of_schedule ON work_requests (namespace, schedule, id, accepted_at, job)
    WHERE schedule IS NOT NULL;
