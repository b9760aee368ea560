-- What is said in the PostgreSQL migration of the same number holds here too.
UPDATE schema_info SET version = 13;

ALTER TABLE work_requests ADD COLUMN took_ms integer;
