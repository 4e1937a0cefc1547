//! A leased message that you still owe an answer.

use std::{fmt, time::Duration};

use bytes::Bytes;

use crate::{
    AckStatus, Attributes, Envelope, Error, ErrorKind, FailureClass, Result,
    consumer::{LeaseRef, Turn, settle::Operation},
};

/// A leased message: settle it with [`ack`](Self::ack), [`nack`](Self::nack),
/// [`release`](Self::release) or [`dead_letter`](Self::dead_letter).
///
/// The lease is kept alive for as long as the delivery lives, up to the consumer's `max_lease`.
/// Dropping it without an answer releases the message promptly, for the next consumer.
#[must_use = "dropping a delivery gives the message back to the queue"]
pub struct Delivery {
    envelope: Envelope,
    lease: LeaseRef,
}

impl AsRef<LeaseRef> for Delivery {
    fn as_ref(&self) -> &LeaseRef {
        &self.lease
    }
}

impl Delivery {
    pub(crate) fn new(envelope: Envelope, lease: LeaseRef) -> Self {
        Self { envelope, lease }
    }

    /// Gives back a message that no caller ever saw: no attempt, and nothing to report.
    pub(crate) fn release_unseen(self) {
        self.lease.consumer().releases().note(&self.envelope.id);
    }

    pub(crate) fn turn(&self) -> Turn {
        self.lease.turn()
    }

    pub(crate) fn into_parts(self) -> (Envelope, LeaseRef) {
        (self.envelope, self.lease)
    }

    /// The message with its id and attempt.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        self.envelope.message.body()
    }

    /// The attributes.
    pub fn attributes(&self) -> &Attributes {
        self.envelope.message.attributes()
    }

    /// Which attempt this is: 1 is the first; `None` where the queue does not count.
    pub fn attempt(&self) -> Option<u32> {
        self.envelope.attempt
    }

    /// Removes the message from the queue for good.
    ///
    /// Failures that may pass are retried while the lease holds.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](ErrorKind::LeaseLost) when another consumer may have the message by now. An
    /// error that leaves the lease in place gives the delivery back.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the ack is on its way, and dropping the future does not stop it.
    ///
    /// # Backends
    ///
    /// [`AckStatus::Submitted`] on SQS standard queues and on Pub/Sub without exactly-once
    /// delivery: in rare cases the message comes back all the same.
    pub async fn ack(self) -> Result<AckStatus, SettleError> {
        let consumer = self.lease.consumer();
        let status = consumer.ack_status();
        let noted =
            (!consumer.releases().is_empty()).then(|| (consumer.clone(), self.envelope.id.clone()));
        self.settle(Operation::Ack).await?;
        if let Some((consumer, id)) = noted {
            consumer.releases().forget(&id);
        }
        Ok(status)
    }

    /// Gives the message back, to be delivered again after `delay` at the earliest.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported), with the delivery, when `delay` is longer than
    /// [`Limits::nack_delay`](crate::Limits::nack_delay); otherwise as [`ack`](Self::ack).
    ///
    /// # Cancel safety
    ///
    /// Once polled, the nack is on its way, and dropping the future does not stop it.
    ///
    /// # Backends
    ///
    /// On Pub/Sub a message is held by the consumer for up to 10 minutes, and comes back early when
    /// that ends. For a longer delay a copy takes its place, with another id and the same
    /// idempotency key.
    pub async fn nack(self, delay: Duration) -> Result<(), SettleError> {
        let longest = self.lease.consumer().capabilities().limits.nack_delay;
        if delay > longest {
            let error = Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a nack of this queue can be delayed by at most {}, and {} was asked for",
                    humantime::format_duration(longest),
                    humantime::format_duration(delay),
                ),
            )
            .with_operation("nack");
            return Err(SettleError {
                error,
                delivery: Some(Box::new(self)),
            });
        }
        self.settle(Operation::Nack(delay)).await
    }

    /// Gives the message back unhandled: as [`nack`](Self::nack), but this delivery does not count
    /// as an attempt.
    ///
    /// This is remembered for as long as the consumer lives. Another process, and the broker's own
    /// dead-letter policy, count it all the same; on Pub/Sub it also counts where the delay takes a
    /// copy.
    ///
    /// # Errors
    ///
    /// As [`nack`](Self::nack).
    ///
    /// # Cancel safety
    ///
    /// As [`nack`](Self::nack).
    pub async fn release(self, delay: Duration) -> Result<(), SettleError> {
        // Before the nack: the message may be back before it returns.
        self.lease.consumer().releases().note(&self.envelope.id);
        self.nack(delay).await
    }

    /// Moves the message to the dead-letter queue with the reason: the copy is sent first, then
    /// the message is acked, so a crash in between duplicates it and never loses it.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported), with the delivery, when the consumer has no
    /// dead-letter queue. When the copy cannot be sent, its error and the delivery.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before the copy is accepted, the message is released; after
    /// that it may be in both queues.
    pub async fn dead_letter(
        self,
        class: FailureClass,
        reason: impl Into<String>,
    ) -> Result<AckStatus, SettleError> {
        let consumer = self.lease.consumer();
        let Some(target) = consumer.dead_letter() else {
            let error = Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the queue {} has no dead-letter queue; configure one with dead_letter=NAME",
                    consumer.queue_name(),
                ),
            )
            .with_operation("dead_letter");
            return Err(SettleError {
                error,
                delivery: Some(Box::new(self)),
            });
        };
        let copy = self.envelope.dead_letter_copy(
            consumer.queue_name(),
            class,
            reason,
            target.capabilities(),
        );
        match target.send(copy).await {
            Ok(_) => self.ack().await,
            Err(error) => Err(SettleError {
                error,
                delivery: Some(Box::new(self)),
            }),
        }
    }

    /// Resolves when the lease is gone: it expired, was revoked, or reached its longest time.
    /// Another consumer may have the message from then on, so stop working on it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only watches.
    pub async fn lease_lost(&self) {
        self.lease.lost().await;
    }

    /// Whether the lease is known to be gone.
    pub fn is_lease_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// Stops keeping the lease alive and sends nothing, so that the message comes back when the
    /// lease runs out: what happens to a message whose process dies. For tests.
    pub fn abandon(self) {
        self.lease.abandon();
    }

    async fn settle(self, operation: Operation) -> Result<(), SettleError> {
        let (envelope, lease) = self.into_parts();
        match lease.settle(operation).await {
            Ok(()) => Ok(()),
            Err((error, lease)) => Err(SettleError {
                error,
                delivery: lease.map(|lease| Box::new(Self { envelope, lease })),
            }),
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("envelope", &self.envelope)
            .field("lease_lost", &self.is_lease_lost())
            .finish()
    }
}

/// Why a settlement failed, with the delivery where its lease still holds.
///
/// Turns into an [`Error`] by `?`; the delivery is then dropped, which releases the message.
#[derive(Debug)]
#[non_exhaustive]
pub struct SettleError {
    /// What went wrong.
    pub error: Error,
    /// The delivery, where it can still be settled.
    pub delivery: Option<Box<Delivery>>,
}

impl fmt::Display for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SettleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<SettleError> for Error {
    fn from(error: SettleError) -> Self {
        error.error
    }
}
