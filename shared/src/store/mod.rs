//! The durable truth, on PostgreSQL or SQLite.
