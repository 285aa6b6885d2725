//! The measures. Each is one run, and leaves nothing behind.

use std::time::Duration;

mod backlog;
mod cost;
mod latency;
mod throughput;

pub(super) use backlog::{daemons, drain, retries};
pub(super) use cost::{cost, start};
pub(super) use latency::{fanout, hung, latency};
pub(super) use throughput::{batch, limit, pipeline};

/// How long all of a measure's webhooks may take to arrive. Only a broken run takes so long.
const PATIENCE: Duration = Duration::from_secs(180);
const EVENTS: &str = "/api/v1/events";
const BATCHES: &str = "/api/v1/events/batch";
