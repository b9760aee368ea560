-- Runs that wait for something elsewhere without holding a lease.
UPDATE schema_info SET version = 4;

-- parked: what the attempt has begun elsewhere goes on; phase_at → when to ask after it. children: it ends as they do.
-- leased: phase_at → when the lease is taken for lost.
-- attempt_until: when the attempt is past its time-out and grace; NULL as before this schema: phase_at of a lease.
-- operation_token, operation: the lease under which what goes on elsewhere was looked after last, and what its worker has
-- noted for the next one.
ALTER TABLE deliveries
    ADD COLUMN attempt_until   timestamptz,
    ADD COLUMN operation_token uuid,
    ADD COLUMN operation       jsonb,
    DROP CONSTRAINT deliveries_phase_check,
    ADD CONSTRAINT deliveries_phase_check CHECK (phase IN ('held', 'due', 'sent', 'leased', 'parked', 'children'));

CREATE INDEX deliveries_parked ON deliveries (phase_at) WHERE phase = 'parked';
CREATE INDEX deliveries_operations ON deliveries (attempt_until) WHERE operation_token IS NOT NULL;
-- What goes on elsewhere keeps its slot.
DROP INDEX deliveries_limited;
CREATE INDEX deliveries_limited ON deliveries (concurrency_key)
    WHERE concurrency_key IS NOT NULL AND phase IN ('sent', 'leased', 'parked');
