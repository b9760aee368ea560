//! The store's contract, run against both databases: each case is one test for SQLite and one for PostgreSQL.
//! Afterwards what only one of them promises.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod accept;
mod backfills;
mod backlog;
mod batches;
mod bed;
mod cost;
mod definitions;
mod dispatch;
mod external;
mod fair;
mod fan_out;
mod faults;
mod feed;
mod fires;
mod follow;
mod history;
mod idempotency;
mod keys;
mod late;
mod leases;
mod limits;
mod lists;
mod model;
mod opening;
mod outbox;
mod overlap;
mod parked;
mod pauses;
mod requests;
mod texts;
mod together;
mod webhooks;
mod workers;
