//! How the destinations are.

use std::time::Duration;

use crate::{Alarm, BreakerState};

/// How a destination is, for readiness checks and dashboards.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationState {
    /// What the breaker does.
    pub breaker: BreakerState,
    /// How long it stays open; zero when it is not.
    pub cool_down_left: Duration,
    /// Whether the configuration is wrong.
    pub alarm: Option<Alarm>,
    /// How many requests are under way.
    pub in_flight: usize,
    /// How many messages wait for the breaker.
    pub waiting: usize,
    /// How many messages were written.
    pub succeeded: u64,
    /// How many attempts failed and are to be repeated.
    pub retried: u64,
    /// How many messages were given back without an attempt.
    pub released: u64,
    /// How many messages were dead-lettered.
    pub dead_lettered: u64,
    /// Why the last attempt that failed did; without secrets.
    pub last_failure: Option<String>,
}
