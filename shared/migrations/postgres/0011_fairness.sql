-- Tenants side by side: what is due goes out in turns, one lane for each of queue, priority and namespace.
UPDATE schema_info SET version = 11;

-- The lanes are found by skipping from one to the next, and each has its runs in the order in which they go out. Schedulers of
-- schema 10 that run beside this one during an upgrade sort what is due.
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (priority, queue, namespace, phase_at, id) WHERE phase = 'due';
