//! Measuring how full queues are.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use towpath_core::{Admin, ErrorKind};

/// Writes the depth of a queue, and the age of its oldest message, as [metrics](crate::metrics), in
/// a task that ends when this is dropped.
///
/// Each sample is a call of the cloud's, so mind the price: once or twice a minute is plenty.
#[derive(Debug)]
#[must_use = "dropping the sampler ends it"]
pub struct DepthSampler {
    _task: AbortOnDropHandle<()>,
}

impl DepthSampler {
    /// Samples the queue of `admin`, shown as `queue`, now and at every `period`.
    ///
    /// A queue that cannot tell its depth is logged once, and then left alone.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, and when `period` is zero.
    pub fn start(admin: Admin, queue: impl Into<String>, period: Duration) -> Self {
        Self {
            _task: AbortOnDropHandle::new(tokio::spawn(sample(admin, queue.into(), period))),
        }
    }
}

async fn sample(admin: Admin, queue: String, period: Duration) {
    let depth = |state: &'static str| metrics::gauge!("towpath_depth", "queue" => queue.clone(), "state" => state);
    let (ready, leased, delayed) = (depth("ready"), depth("leased"), depth("delayed"));
    let oldest = metrics::gauge!("towpath_oldest_age_seconds", "queue" => queue.clone());
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match admin.depth().await {
            Ok(depth) => {
                // Gauges are floats; no queue is so full that this matters.
                ready.set(depth.ready as f64);
                leased.set(depth.leased as f64);
                delayed.set(depth.delayed as f64);
                if let Some(age) = depth.oldest_age {
                    oldest.set(age.as_secs_f64());
                }
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::warn!(queue, %error, "the queue cannot tell its depth; it is not sampled");
                return;
            }
            Err(error) => tracing::warn!(queue, %error, "the depth could not be read"),
        }
    }
}
