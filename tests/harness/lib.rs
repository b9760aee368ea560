//! Private databases and brokers, and real processes, for the tests of the whole system.

pub mod rabbitmq;
