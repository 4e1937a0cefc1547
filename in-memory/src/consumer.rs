//! The receiving half.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    task::coop::consume_budget,
    time::{Instant, sleep_until},
};
use towpath_core::{
    AckStatus, Capabilities, Error, ErrorKind, Lease, Result,
    driver::{self, Receipt, Received},
};

use crate::{
    backend::SCHEME,
    producer::{closed, throttled},
    profile,
    queue::{ExtendError, nanos},
    queues::Queues,
    settings::{Shown, Wanted, error},
    shared::{Inner, Shared, Waiting},
    store::Nanos,
};

#[derive(Debug)]
pub(crate) struct MemoryConsumer {
    queues: Arc<Queues>,
    shared: Arc<Shared>,
    capabilities: Capabilities,
    lease: Nanos,
    /// Whether an ack is answered with `Ok` when its lease is gone, as on SQS and Pub/Sub.
    takes_late_acks: bool,
    takes_late_nacks: bool,
    is_closed: AtomicBool,
    closing: Notify,
}

impl MemoryConsumer {
    pub(crate) fn new(queues: Arc<Queues>, shared: Arc<Shared>, wanted: &Wanted) -> Self {
        let settings = shared.settings();
        let lease = settings.lease_of_handle(wanted);
        let capabilities = profile::capabilities(&settings, lease);
        let is_submitted = capabilities.ack == AckStatus::Submitted;
        Self {
            queues,
            shared,
            capabilities,
            lease: nanos(lease),
            takes_late_acks: is_submitted,
            takes_late_nacks: is_submitted && settings.profile.is_pubsub(),
            is_closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(closed(operation));
        }
        Ok(())
    }

    fn take(&self, inner: &mut Inner, max: usize, now: Nanos) -> Result<Vec<Received>> {
        let mut received = Vec::new();
        if let Some(dice) = &mut inner.dice {
            if dice.roll(|faults| faults.receive_error) {
                return Err(error(
                    ErrorKind::Unavailable,
                    "simulated: the queue cannot be reached",
                ));
            }
            if dice.roll(|faults| faults.reorder) {
                inner.queue.reorder();
            }
        }
        if inner.queue.has_ready() {
            inner.queue.receive(max, self.lease, now, &mut received);
        }
        Ok(received)
    }

    /// Waits for messages until `deadline`; `None` is no deadline.
    async fn wait(&self, max: usize, deadline: Option<Instant>) -> Result<Vec<Received>> {
        let waiting = Waiting::new(&self.shared);
        loop {
            let arrival = self.shared.arrival();
            let closing = self.closing.notified();
            tokio::pin!(arrival, closing);
            // Registered before the look, so that nothing in between is missed.
            arrival.as_mut().enable();
            closing.as_mut().enable();
            self.check_open("receive")?;
            let (received, wake_at) = self.queues.with(&self.shared, |inner, now| {
                let received = self.take(inner, max, now);
                let next = inner.queue.next_event();
                inner.waiters.watch(waiting.number(), next);
                (received, inner.waiters.wake_at(waiting.number()))
            })?;
            let received = received?;
            if !received.is_empty() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(received);
            }
            let wake_at = wake_at.and_then(|at| self.shared.instant(at));
            let wake_at = [wake_at, deadline].into_iter().flatten().min();
            let sleeping = async {
                match wake_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // All branches only wait. A wake-up that is dropped goes to the next receiver.
            tokio::select! {
                () = arrival => {}
                () = closing => {}
                () = sleeping => {}
            }
        }
    }

    /// Runs `settle` for each receipt; the same error for each when the call fails as a whole.
    async fn settle(
        &self,
        operation: &'static str,
        receipts: &[Receipt],
        settle: impl FnMut(&mut Inner, &Receipt, Nanos) -> Result<()>,
    ) -> Vec<Result<()>> {
        let results = self.settle_now(operation, receipts, settle);
        // It is done by now, whether or not the future is dropped while others have their turn.
        consume_budget().await;
        results
    }

    fn settle_now(
        &self,
        operation: &'static str,
        receipts: &[Receipt],
        mut settle: impl FnMut(&mut Inner, &Receipt, Nanos) -> Result<()>,
    ) -> Vec<Result<()>> {
        let all = |error: Error| vec![Err(error.with_operation(operation)); receipts.len()];
        if let Err(error) = self.check_open(operation) {
            return all(error);
        }
        let most = self.capabilities.limits.settle_batch;
        if receipts.len() > most {
            return all(error(
                ErrorKind::Unsupported,
                format!(
                    "{} receipts at once, and {most} are allowed",
                    receipts.len()
                ),
            ));
        }
        let results = self.queues.with(&self.shared, |inner, now| {
            receipts
                .iter()
                .map(|receipt| {
                    if let Some(dice) = &mut inner.dice
                        && dice.roll(|faults| faults.throttle)
                    {
                        return Err(throttled(operation));
                    }
                    // A receipt of another backend is refused, also where late acks are taken.
                    receipt
                        .numbers()
                        .map_err(|error| error.with_backend(SCHEME))
                        .and_then(|_| settle(inner, receipt, now))
                        .map_err(|error| error.with_operation(operation))
                })
                .collect()
        });
        results.unwrap_or_else(all)
    }
}

#[async_trait]
impl driver::Consumer for MemoryConsumer {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        // Nothing is leased before the last await, so dropping the future strands nothing.
        consume_budget().await;
        let name = |error: Error| error.with_operation("receive");
        self.check_open("receive")?;
        let limits = &self.capabilities.limits;
        let max = max.get().min(limits.receive_batch);
        let received = self
            .queues
            .with(&self.shared, |inner, now| self.take(inner, max, now))
            .and_then(|received| received)
            .map_err(name)?;
        if !received.is_empty() || wait.is_zero() {
            return Ok(received);
        }
        let deadline = Instant::now().checked_add(wait.min(limits.wait));
        // Boxed, so that a receive that need not wait stays small.
        Box::pin(self.wait(max, deadline)).await.map_err(name)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        self.settle("ack", receipts, |inner, receipt, now| {
            if let Some(dice) = &mut inner.dice
                && dice.roll(|faults| faults.lost_ack)
                && inner.queue.holds(receipt)
            {
                if self.takes_late_acks {
                    inner.queue.lose_ack(receipt, now);
                    return Ok(());
                }
                return Err(error(
                    ErrorKind::Timeout,
                    "simulated: the ack got lost, and the message is still leased",
                ));
            }
            if inner.queue.ack(receipt, now) || self.takes_late_acks {
                Ok(())
            } else {
                Err(lease_lost())
            }
        })
        .await
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        let longest = self.capabilities.limits.nack_delay;
        self.settle("nack", receipts, |inner, receipt, now| {
            if delay > longest {
                return Err(error(
                    ErrorKind::Unsupported,
                    format!(
                        "a nack of this queue can be delayed by at most {}, and {} was asked for",
                        Shown(longest),
                        Shown(delay)
                    ),
                ));
            }
            if inner.queue.nack(receipt, delay, now) || self.takes_late_nacks {
                Ok(())
            } else {
                Err(lease_lost())
            }
        })
        .await
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        self.settle("extend", receipts, |inner, receipt, now| {
            let Lease::Extended {
                range, max_total, ..
            } = &self.capabilities.lease
            else {
                return Err(error(
                    ErrorKind::Unsupported,
                    "the leases of this queue are extended by themselves",
                ));
            };
            if !range.contains(&lease) {
                return Err(error(
                    ErrorKind::Unsupported,
                    format!(
                        "a lease of this queue lasts from {} to {}, and {} was asked for",
                        Shown(*range.start()),
                        Shown(*range.end()),
                        Shown(lease)
                    ),
                ));
            }
            inner
                .queue
                .extend(receipt, lease, now)
                .map_err(|failure| match failure {
                    ExtendError::Lost => lease_lost(),
                    ExtendError::TooLong => error(
                        ErrorKind::Unsupported,
                        format!("a message is held for {} at most", Shown(*max_total)),
                    ),
                })
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        self.is_closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
        Ok(())
    }
}

fn lease_lost() -> Error {
    error(
        ErrorKind::LeaseLost,
        "the lease ran out or was settled before; another consumer may have the message",
    )
}
