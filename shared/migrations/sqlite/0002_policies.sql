-- What is said in the PostgreSQL migration of the same number holds here too.
UPDATE schema_info SET version = 2;

ALTER TABLE leader ADD COLUMN before_ended_at integer;

ALTER TABLE schedules ADD COLUMN fired integer NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN failures integer NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN paused_at integer;
ALTER TABLE schedules ADD COLUMN paused_by text;
ALTER TABLE schedules ADD COLUMN pause_reason text;

ALTER TABLE work_requests ADD COLUMN chained_from blob;
CREATE INDEX work_requests_chained ON work_requests (chained_from) WHERE chained_from IS NOT NULL;

-- SQLite changes a CHECK only with the table.
CREATE TABLE deliveries_2 (
    id blob PRIMARY KEY,
    namespace text NOT NULL,
    queue text NOT NULL,
    schedule text,
    origin text NOT NULL DEFAULT 'schedule',
    phase text NOT NULL CHECK (phase IN ('held', 'due', 'sent', 'leased')),
    phase_at integer NOT NULL,
    sends integer NOT NULL DEFAULT 0,
    resends integer NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    token blob,
    worker blob,
    timeout_ms integer NOT NULL,
    seq integer NOT NULL,
    follow integer NOT NULL DEFAULT 0
) STRICT;
INSERT INTO deliveries_2 (id, namespace, queue, schedule, phase, phase_at, sends, resends, attempt, failures, token,
                          worker, timeout_ms, seq)
SELECT id, namespace, queue, schedule, phase, phase_at, sends, resends, attempt, failures, token, worker, timeout_ms, seq
FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_2 RENAME TO deliveries;
CREATE INDEX deliveries_due ON deliveries (phase_at) WHERE phase = 'due';
CREATE INDEX deliveries_sent ON deliveries (phase_at) WHERE phase = 'sent';
CREATE INDEX deliveries_leased ON deliveries (worker) WHERE phase = 'leased';
CREATE INDEX deliveries_running ON deliveries (namespace, schedule) WHERE schedule IS NOT NULL;

CREATE INDEX deliveries_held ON deliveries (namespace, schedule) WHERE phase = 'held';

CREATE TABLE follow_ups (
    work_request_id blob PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TRIGGER deliveries_follow AFTER DELETE ON deliveries FOR EACH ROW WHEN old.follow
BEGIN
    INSERT INTO follow_ups (work_request_id) VALUES (old.id);
END;

CREATE TABLE changes (
    seq integer PRIMARY KEY AUTOINCREMENT,
    namespace text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('job', 'schedule')),
    name text NOT NULL,
    version integer NOT NULL,
    action text NOT NULL,
    at integer NOT NULL,
    actor text NOT NULL,
    reason text,
    spec text
) STRICT;
CREATE INDEX changes_of ON changes (namespace, kind, name, seq);
INSERT INTO changes (namespace, kind, name, version, action, at, actor, spec)
SELECT namespace, 'job', name, version, CASE WHEN version = 1 THEN 'created' ELSE 'changed' END, created_at,
       'before this was recorded', spec
FROM job_versions;
INSERT INTO changes (namespace, kind, name, version, action, at, actor, spec)
SELECT namespace, 'schedule', name, version, CASE WHEN version = 1 THEN 'created' ELSE 'changed' END,
       CAST(unixepoch('subsec') * 1000000 AS integer), 'before this was recorded', spec
FROM schedules;
INSERT INTO changes (namespace, kind, name, version, action, at, actor)
SELECT f.namespace, 'schedule', f.schedule, max(f.version), 'removed', CAST(unixepoch('subsec') * 1000000 AS integer),
       'before this was recorded'
FROM fires f
WHERE NOT EXISTS (SELECT 1 FROM schedules s WHERE s.namespace = f.namespace AND s.name = f.schedule)
GROUP BY f.namespace, f.schedule;

CREATE INDEX fires_asked_for ON fires (namespace, schedule, due_at DESC, origin) WHERE origin <> 'schedule';

CREATE TABLE backfills (
    namespace text NOT NULL,
    schedule text NOT NULL,
    id text NOT NULL,
    version integer NOT NULL,
    spec text NOT NULL,
    from_at integer NOT NULL,
    to_at integer NOT NULL,
    cursor integer NOT NULL,
    total integer NOT NULL,
    triggered integer NOT NULL DEFAULT 0,
    skipped integer NOT NULL DEFAULT 0,
    max_parallel integer NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'done', 'canceled')),
    created_at integer NOT NULL,
    created_by text NOT NULL,
    reason text,
    ended_at integer,
    ended_by text,
    PRIMARY KEY (namespace, schedule, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX backfills_running ON backfills (namespace, schedule, id) WHERE status = 'running';
