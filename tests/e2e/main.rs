//! What users do, with real binaries: on PostgreSQL and RabbitMQ, and the same embedded.

mod at_once;
mod by_hand;
mod reload;
mod scenario;
mod views;
