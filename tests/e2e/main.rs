//! What users do, with real binaries: on PostgreSQL and RabbitMQ, and the same embedded.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod access;
mod at_once;
mod backlog;
mod by_hand;
mod cancel;
mod contract;
mod dialects;
mod external;
mod fair_use;
mod fan_out;
mod limits;
mod long_operations;
mod order;
mod policies;
mod reload;
mod scenario;
mod ssh;
mod streams;
mod unique;
mod views;
mod webhooks;
