//! What every Reveille process shares. In reading order:
//!
//! - [`definition`]: YAML files → jobs and schedules, or every fault at once.
//! - [`template`]: `{{ … }}` in texts and JSON values.
//! - [`due`]: pure arithmetic: a schedule's timing → its due times.
//! - [`state`]: the work request's whole state machine, one pure function.
//! - [`fan_out`]: runs that call for others, and what the ends of these mean for them.
//! - [`retry`]: failed attempt → when to try again.
//! - [`work_request`]: the durable record of one run and its history.
//! - [`trigger`]: the one-way message.
//! - [`cloud_event`], [`run_event`]: what workers in other languages tell of their runs.
//! - [`name`]: what can be the name of something; [`json`]: JSON from outside, in which nothing is said twice.
//! - [`access`]: API keys, and what they let their holders do.
//! - [`store`]: the durable truth, on PostgreSQL or SQLite.
//! - [`broker`]: the wake-ups, on RabbitMQ or in process.
//! - [`listen`]: where a process answers HTTP, in plain text or over TLS.
//! - [`clock`], [`duration`]: time as a parameter.
//! - [`crash`]: where tests let a process die.
//! - [`config`], [`telemetry`], [`lifecycle`], [`periodic`]: what makes a process.

pub mod access;
pub mod broker;
pub mod clock;
pub mod cloud_event;
pub mod config;
pub mod crash;
pub mod definition;
pub mod due;
pub mod duration;
pub mod fan_out;
pub mod json;
pub mod lifecycle;
pub mod listen;
pub mod name;
pub mod periodic;
pub mod retry;
pub mod run_event;
pub mod state;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod trigger;
pub mod work_request;
