-- What schedules a bank could trust need beside their due times.
UPDATE schema_info SET version = 2;

-- When the lease of the leader before this one ended: what it sent last may not have been published.
ALTER TABLE leader ADD COLUMN before_ended_at timestamptz;

-- fired: due times that have triggered, for max_fires. failures: runs of fires that FAILED in a row, for
-- pause_after_failures. While a schedule is paused its cursor stands still and next_due_at is NULL.
ALTER TABLE schedules
    ADD COLUMN fired        bigint  NOT NULL DEFAULT 0,
    ADD COLUMN failures     integer NOT NULL DEFAULT 0,
    ADD COLUMN paused_at    timestamptz,
    ADD COLUMN paused_by    text,
    ADD COLUMN pause_reason text;

-- The run whose end called for this one.
ALTER TABLE work_requests ADD COLUMN chained_from uuid;
CREATE INDEX work_requests_chained ON work_requests (chained_from) WHERE chained_from IS NOT NULL;

-- held: waits until runs of an earlier fire have ended; phase_at says since when.
-- origin: as in fires, of a fire's runs. The default is what builds before this schema mean by a schedule.
-- follow: something waits for the end of this run.
ALTER TABLE deliveries
    ADD COLUMN origin text NOT NULL DEFAULT 'schedule',
    ADD COLUMN follow boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT deliveries_phase_check,
    ADD CONSTRAINT deliveries_phase_check CHECK (phase IN ('held', 'due', 'sent', 'leased'));

CREATE INDEX deliveries_held ON deliveries (namespace, schedule) WHERE phase = 'held';

-- Runs that have ended and that something waits for: a chain, a held fire, a count of failures, a backfill. Written by the
-- transaction that ends the run, whoever that is (a trigger, so that no build can forget it), and deleted by the one
-- that draws the consequences.
CREATE TABLE follow_ups (
    work_request_id uuid PRIMARY KEY
);
CREATE FUNCTION follow_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO follow_ups (work_request_id) VALUES (OLD.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER deliveries_follow AFTER DELETE ON deliveries
    FOR EACH ROW WHEN (OLD.follow) EXECUTE FUNCTION follow_up();

-- Who changed which definition, when and why. spec: the definition from then on; NULL where it did not change or is gone.
CREATE TABLE changes (
    seq       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text        NOT NULL,
    kind      text        NOT NULL CHECK (kind IN ('job', 'schedule')),
    name      text        NOT NULL,
    version   bigint      NOT NULL,
    action    text        NOT NULL,
    at        timestamptz NOT NULL,
    actor     text        NOT NULL,
    reason    text,
    spec      jsonb
);
CREATE INDEX changes_of ON changes (namespace, kind, name, seq);
INSERT INTO changes (namespace, kind, name, version, action, at, actor, spec)
SELECT namespace, 'job', name, version, CASE WHEN version = 1 THEN 'created' ELSE 'changed' END, created_at,
       'before this was recorded', spec
FROM job_versions;
INSERT INTO changes (namespace, kind, name, version, action, at, actor, spec)
SELECT namespace, 'schedule', name, version, CASE WHEN version = 1 THEN 'created' ELSE 'changed' END, now(),
       'before this was recorded', spec
FROM schedules;
INSERT INTO changes (namespace, kind, name, version, action, at, actor)
SELECT f.namespace, 'schedule', f.schedule, max(f.version), 'removed', now(), 'before this was recorded'
FROM fires f
WHERE NOT EXISTS (SELECT 1 FROM schedules s WHERE s.namespace = f.namespace AND s.name = f.schedule)
GROUP BY f.namespace, f.schedule;

-- The primary key serves the schedule's own fires, newest first; this the others.
CREATE INDEX fires_asked_for ON fires (namespace, schedule, due_at DESC, origin) WHERE origin <> 'schedule';

-- Fires of a past range, made at someone's wish. spec: the schedule as it was then.
CREATE TABLE backfills (
    namespace    text        NOT NULL,
    schedule     text        NOT NULL,
    id           text        NOT NULL,
    version      bigint      NOT NULL,
    spec         jsonb       NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    cursor       timestamptz NOT NULL,
    total        bigint      NOT NULL,
    triggered    bigint      NOT NULL DEFAULT 0,
    skipped      bigint      NOT NULL DEFAULT 0,
    max_parallel integer     NOT NULL,
    status       text        NOT NULL CHECK (status IN ('running', 'done', 'canceled')),
    created_at   timestamptz NOT NULL,
    created_by   text        NOT NULL,
    reason       text,
    ended_at     timestamptz,
    ended_by     text,
    PRIMARY KEY (namespace, schedule, id)
);
CREATE INDEX backfills_running ON backfills (namespace, schedule, id) WHERE status = 'running';

-- Two columns more.
CREATE OR REPLACE VIEW run_history AS
SELECT w.id,
       w.namespace,
       w.job,
       w.job_version,
       w.queue,
       w.schedule,
       w.due_at        AS scheduled_for,
       w.status,
       w.attempt       AS attempts,
       w.percent       AS percent_complete,
       w.error_code,
       w.error_message,
       w.accepted_at,
       w.started_at,
       w.finished_at,
       extract(epoch FROM w.started_at - w.accepted_at)::double precision AS wait_seconds,
       extract(epoch FROM w.finished_at - w.started_at)::double precision AS run_seconds,
       w.origin,
       w.chained_from
FROM work_requests w;
