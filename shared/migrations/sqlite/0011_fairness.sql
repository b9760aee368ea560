-- What is said in the PostgreSQL migration of the same number holds here too, but that no other process is there.
UPDATE schema_info SET version = 11;

DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (priority, queue, namespace, phase_at) WHERE phase = 'due';
