//! A message in hand.

use metrics::Gauge;
use towpath_core::Delivery;

use crate::{Health, permits::Permit};

/// A received message with its permit, counted until it is dropped.
pub(crate) struct InHand {
    pub(crate) delivery: Delivery,
    pub(crate) permit: Permit,
    pub(crate) held: Held,
}

/// Counts a message as in hand.
pub(crate) struct Held {
    health: Health,
    in_flight: Gauge,
}

impl Held {
    pub(crate) fn new(health: Health, in_flight: Gauge) -> Self {
        in_flight.increment(1);
        Self { health, in_flight }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_flight.decrement(1);
        self.health.let_go();
    }
}
