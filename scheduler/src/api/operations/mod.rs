//! For those who run the service: probes, metrics, workers and queues.

pub(crate) mod live;
pub(crate) mod metrics;
pub(crate) mod queues;
pub(crate) mod ready;
pub(crate) mod refused_events;
pub(crate) mod workers;
