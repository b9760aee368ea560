-- Workers in other languages, and what they tell by events.
UPDATE schema_info SET version = 5;

-- external: a worker in another language, known by its name. It beats with each claim and event, and nobody takes it for
-- dead by that: each of its leases has its own end.
ALTER TABLE workers ADD COLUMN kind text NOT NULL DEFAULT 'reveille' CHECK (kind IN ('reveille', 'external'));

-- Every lease that a worker in another language has had. lease_ms: how long it may be silent. retry: the job's policy.
-- ended: how it said that the attempt ended, if it did. words_at, words_id: the last event with words on its progress.
-- output: what an event of its own said, before or after the end; has_own: the end itself said another.
CREATE TABLE external_leases (
    work_request_id uuid    NOT NULL,
    token           uuid    NOT NULL,
    worker          uuid    NOT NULL,
    attempt         integer NOT NULL,
    lease_ms        bigint  NOT NULL,
    retry           jsonb   NOT NULL,
    ended           text    CHECK (ended IN ('succeeded', 'failed', 'canceled', 'released')),
    words_at        timestamptz,
    words_id        text,
    output          jsonb,
    output_at       timestamptz,
    output_id       text,
    has_own         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (work_request_id, token)
);

-- Events that were taken: each counts once.
CREATE TABLE seen_events (
    work_request_id uuid        NOT NULL,
    source          text        NOT NULL,
    id              text        NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (work_request_id, source, id)
);
CREATE INDEX seen_events_age ON seen_events (at);

-- Events that were not, for people; the newest only. What is refused again for the same reason is counted.
CREATE TABLE refused_events (
    seq         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint text        NOT NULL UNIQUE,
    via         text        NOT NULL,
    code        text        NOT NULL,
    message     text        NOT NULL,
    source      text,
    id          text,
    kind        text,
    subject     text,
    namespace   text,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    count       bigint      NOT NULL
);
CREATE INDEX refused_events_age ON refused_events (last_at);
