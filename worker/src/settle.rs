//! Settling a message as its attempt ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use towpath_core::{Delivery, Error, FailureClass, SettleError};

use crate::{keys::Turn, report::Settled, runtime::Runtime};

/// Shorter delays than this are waited out with the lease kept, where the queue has no longer one.
const SHORTEST_NACK: Duration = Duration::from_secs(1);
/// The longest that a dead letter is tried again while its message is held.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is to happen with a message.
#[derive(Debug)]
pub(crate) enum Decision {
    Ack,
    /// Another attempt, after the delay.
    Retry(Duration),
    /// Back to the queue without an attempt that counts.
    Release(Duration),
    DeadLetter(FailureClass, String),
    /// Nothing: the lease is gone.
    Discard,
}

impl Runtime {
    /// Settles, and counts how that ended.
    pub(crate) async fn settle(&self, delivery: Delivery, decision: Decision, turn: Option<&Turn>) {
        match decision {
            Decision::Ack => self.ack(delivery).await,
            // Boxed, so that the task of a message which succeeds stays small.
            decision => Box::pin(self.settle_failed(delivery, decision, turn)).await,
        }
    }

    async fn ack(&self, delivery: Delivery) {
        let id = delivery.envelope().id.clone();
        let sent_at = delivery.envelope().sent_at;
        match delivery.ack().await {
            Ok(_) => {
                if let Some(age) = sent_at.and_then(|at| self.clock.since(at)) {
                    self.counts.metrics.end_to_end.record(age);
                }
                self.counts.settled(Settled::Acked);
                self.notes.forget(&id);
            }
            Err(error) => self.not_settled("ack", error),
        }
    }

    async fn settle_failed(&self, delivery: Delivery, decision: Decision, turn: Option<&Turn>) {
        if let (Decision::Retry(_) | Decision::Release(_) | Decision::Discard, Some(turn)) =
            (&decision, turn)
        {
            // Later messages of the key must not run before this one is tried again.
            self.release_followers(turn).await;
        }
        match decision {
            Decision::Ack => self.ack(delivery).await,
            Decision::Retry(delay) => {
                self.counts.metrics.retry_delay.record(delay);
                match self.give_back(delivery, delay, Delivery::nack).await {
                    Ok(()) => self.counts.settled(Settled::Retried),
                    Err(error) => self.not_settled("nack", error),
                }
            }
            Decision::Release(delay) => self.release(delivery, delay).await,
            Decision::DeadLetter(class, reason) => {
                self.dead_letter(delivery, class, reason).await;
            }
            Decision::Discard => {
                self.counts.settled(Settled::LeaseLost);
                let id = &delivery.envelope().id;
                tracing::warn!(%id, queue = &*self.queue, "the lease was lost while the message was being handled; what its handler returned is discarded");
            }
        }
    }

    /// Gives the message back without an attempt that counts.
    async fn release(&self, delivery: Delivery, delay: Duration) {
        match self.give_back(delivery, delay, Delivery::release).await {
            Ok(()) => self.counts.settled(Settled::Released),
            Err(error) => self.not_settled("nack", error),
        }
    }

    async fn release_followers(&self, turn: &Turn) {
        for follower in turn.followers() {
            drop(follower.permit);
            self.release(follower.delivery, Duration::ZERO).await;
            drop(follower.held);
        }
    }

    /// Nacks or releases with `delay`, or with the longest that the queue has; then the rest is
    /// remembered, and the message is given back again when it comes too early.
    async fn give_back<F>(
        &self,
        delivery: Delivery,
        delay: Duration,
        nack: impl FnOnce(Delivery, Duration) -> F,
    ) -> Result<(), SettleError>
    where
        F: Future<Output = Result<(), SettleError>>,
    {
        let longest = self.consumer.capabilities().limits.nack_delay;
        if delay <= longest {
            return nack(delivery, delay).await;
        }
        self.notes.edit(&delivery.envelope().id, |note| {
            note.not_before = Some(Instant::now() + delay);
        });
        if longest < SHORTEST_NACK {
            // It would come back at once, over and over.
            let held = (delay - longest).min(self.consumer.max_lease() / 2);
            tokio::select! {
                () = sleep(held) => {}
                () = delivery.lease_lost() => {}
                () = self.stop.cancelled() => {}
            }
        }
        nack(delivery, longest).await
    }

    /// Copies to the dead-letter queue and acks; tries again for a while, then gives the message
    /// back. It is never lost.
    async fn dead_letter(&self, delivery: Delivery, class: FailureClass, reason: String) {
        let id = delivery.envelope().id.clone();
        let key = delivery.envelope().message.idempotency_key();
        if self.consumer.dead_letter().is_none() {
            tracing::error!(%id, %key, queue = &*self.queue, %reason, "a message failed for good, and the queue has no dead-letter queue; it stays in the queue and is tried again: configure one with dead_letter=NAME");
            let longest = self.settings.retry.backoff().longest();
            match self.give_back(delivery, longest, Delivery::nack).await {
                Ok(()) => self.counts.settled(Settled::Retried),
                Err(error) => self.not_settled("nack", error),
            }
            return;
        }
        let patience = PATIENCE.min(self.consumer.max_lease() / 2);
        let deadline = Instant::now() + patience;
        let mut delivery = delivery;
        let mut failures = 0;
        loop {
            let error = match delivery.dead_letter(class.clone(), reason.as_str()).await {
                Ok(_) => {
                    self.counts.settled(Settled::DeadLettered);
                    self.notes.forget(&id);
                    tracing::warn!(%id, %key, queue = &*self.queue, ?class, %reason, "dead-lettered");
                    return;
                }
                Err(error) => error,
            };
            failures += 1;
            let Some(held) = error.delivery else {
                return self.not_settled("dead_letter", error);
            };
            delivery = *held;
            let delay = crate::receive::BACKOFF.delay(failures);
            let is_hopeless = !error.error.is_retryable() || Instant::now() + delay > deadline;
            if is_hopeless || self.stop.is_cancelled() {
                let error = error.error;
                tracing::error!(%id, %key, queue = &*self.queue, %error, "a message could not be dead-lettered; it stays in the queue and is tried again");
                let longest = self.settings.retry.backoff().longest();
                match self.give_back(delivery, longest, Delivery::nack).await {
                    Ok(()) => self.counts.settled(Settled::Retried),
                    Err(error) => self.not_settled("nack", error),
                }
                return;
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = delivery.lease_lost() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Counts a settlement that failed. The message comes back when its lease runs out.
    fn not_settled(&self, operation: &'static str, error: SettleError) {
        let SettleError {
            error, delivery, ..
        } = error;
        match delivery {
            None if error.kind() == towpath_core::ErrorKind::LeaseLost => {
                self.counts.settled(Settled::LeaseLost);
                tracing::warn!(queue = &*self.queue, operation, %error, "the lease was lost before the message was settled");
            }
            held => {
                self.counts.settled(Settled::Failed);
                self.log_failed(operation, &error);
                // Not released: what cannot be acked would be handled over and over.
                if let Some(delivery) = held {
                    delivery.abandon();
                }
            }
        }
    }

    fn log_failed(&self, operation: &'static str, error: &Error) {
        tracing::error!(queue = &*self.queue, operation, %error, "a message could not be settled; it comes back when its lease runs out");
    }
}
