//! TLS with real servers: certificates that are right, of another authority, for another name, and ended.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod everywhere;
mod postgres;
mod rabbitmq;
