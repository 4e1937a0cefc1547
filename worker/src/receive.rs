//! Receiving what there are permits for, for ever.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use towpath_core::{Delivery, Error, ErrorKind};

use crate::{
    Backoff,
    in_hand::{Held, InHand},
    permits::Grant,
    runtime::Runtime,
};

/// The most messages that are asked for at once.
const BATCH: usize = 256;
/// How long one receive waits for a message.
const WAIT: Duration = Duration::from_secs(20);
/// An empty answer that came sooner than this did not wait at the broker.
const TOO_SOON: Duration = Duration::from_millis(20);
/// The least pause after a receive that failed.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// The pauses after receives and dead letters that failed.
pub(crate) const BACKOFF: Backoff = Backoff::Exponential {
    first: Duration::from_millis(200),
    most: Duration::from_secs(30),
};

impl Runtime {
    /// Receives until `stop`, or until the consumer is closed. Failures heal with a growing pause.
    pub(crate) async fn receive(self: &Arc<Self>, stop: &CancellationToken) {
        let mut failures = 0;
        let mut empty = 0;
        loop {
            let begun = Instant::now();
            // Every branch only waits, and a receive that is dropped loses nothing.
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.gate.closed() => None,
                received = self.next_batch() => Some(received),
            };
            let pause = match received {
                None => {
                    self.paused(stop).await;
                    continue;
                }
                Some(Ok((grant, batch))) => {
                    if failures > 0 {
                        tracing::info!(queue = &*self.queue, failures, "receiving works again");
                    }
                    failures = 0;
                    let is_too_soon = batch.is_empty() && begun.elapsed() < TOO_SOON;
                    empty = if is_too_soon { empty + 1 } else { 0 };
                    self.dispatch(batch, grant);
                    (empty > 0).then(|| LEAST_PAUSE + BACKOFF.delay(empty))
                }
                Some(Err(error)) if error.kind() == ErrorKind::Closed => {
                    tracing::warn!(queue = &*self.queue, %error, "the consumer was closed; the worker ends");
                    return;
                }
                Some(Err(error)) => {
                    failures += 1;
                    self.counts
                        .receive_error(&self.queue, error.kind(), failures);
                    Some(self.pause_after(&error, failures))
                }
            };
            if let Some(pause) = pause {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        }
    }

    async fn next_batch(&self) -> Result<(Grant, Vec<Delivery>), Error> {
        let grant = self.permits.acquire(BATCH).await;
        let _receiving = self.health.receiving();
        let batch = self.consumer.receive_batch(grant.len(), WAIT).await?;
        Ok((grant, batch))
    }

    async fn paused(&self, stop: &CancellationToken) {
        tracing::info!(queue = &*self.queue, reasons = ?self.gate.reasons(), "paused");
        self.consumer.release_prefetched();
        self.counts.metrics.paused.set(1);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.gate.opened() => tracing::info!(queue = &*self.queue, "resumed"),
        }
        self.counts.metrics.paused.set(0);
    }

    fn pause_after(&self, error: &Error, failures: u32) -> Duration {
        let pause =
            (LEAST_PAUSE + BACKOFF.delay(failures)).max(error.retry_after().unwrap_or_default());
        if error.is_retryable() {
            tracing::warn!(queue = &*self.queue, %error, failures, ?pause, "receiving failed; it is tried again");
        } else {
            tracing::error!(queue = &*self.queue, %error, failures, ?pause, "receiving failed and needs a look; it is tried again all the same");
        }
        pause
    }

    fn dispatch(self: &Arc<Self>, batch: Vec<Delivery>, mut grant: Grant) {
        self.counts.received(batch.len() as u64);
        for delivery in batch {
            let held = Held::new(self.health.clone(), self.counts.metrics.in_flight.clone());
            let message = &delivery.envelope().message;
            let attributes = message.attributes().iter();
            let len = attributes.fold(message.body().len(), |sum, (name, value)| {
                sum + name.len() + value.len()
            });
            match grant.take(len) {
                Some(permit) => self.start(InHand {
                    delivery,
                    permit,
                    held,
                }),
                // More than was asked for: back at once.
                None => self.give_back_later(delivery, held),
            }
        }
    }

    fn start(self: &Arc<Self>, message: InHand) {
        let runtime = self.clone();
        let Some(key) = message.delivery.envelope().message.ordering_key() else {
            self.spawn(async move { runtime.process(message, None).await });
            return;
        };
        let key = key.to_owned();
        let Some((first, turn)) = self.keys.enter(&key, message) else {
            return;
        };
        self.spawn(async move {
            let mut next = Some((first, turn));
            while let Some((message, turn)) = next {
                runtime.process(message, Some(&turn)).await;
                next = turn.next();
            }
        });
    }
}
