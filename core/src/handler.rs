//! The function that processes messages, under a worker, Lambda or a push endpoint alike.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{Envelope, Failure, Outcome};

/// Processes one message at a time; many may run at once.
///
/// Implemented for `async fn(Attempt) -> Result<(), E>`, where any error means "try again" and
/// [`Failure::permanent`] means "never again".
///
/// A message may be handled more than once (a lease can be lost after the work was done), so make
/// effects idempotent by [`Message::idempotency_key`](crate::Message::idempotency_key).
///
/// # Cancel safety
///
/// The future is dropped when the lease is lost, when its time is up, or when the process stops.
/// The message is then delivered again.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Processes one attempt at a message and says what is to happen with it.
    async fn handle(&self, attempt: Attempt) -> Outcome;
}

#[async_trait]
impl<F, Fut, E> Handler for F
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<Failure> + Send + 'static,
{
    async fn handle(&self, attempt: Attempt) -> Outcome {
        self(attempt).await.into()
    }
}

#[async_trait]
impl Handler for Arc<dyn Handler> {
    async fn handle(&self, attempt: Attempt) -> Outcome {
        (**self).handle(attempt).await
    }
}

/// One attempt at one message: the envelope, where it came from, and a signal that the lease is
/// gone.
#[derive(Clone, Debug)]
pub struct Attempt {
    envelope: Envelope,
    queue: Arc<str>,
    cancellation: CancellationToken,
}

impl Attempt {
    /// An attempt at `envelope`, which came from `queue`.
    pub fn new(envelope: Envelope, queue: impl Into<Arc<str>>) -> Self {
        Self {
            envelope,
            queue: queue.into(),
            cancellation: CancellationToken::new(),
        }
    }

    /// Sets the token that is cancelled when the lease is lost.
    #[must_use]
    pub fn with_cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = token;
        self
    }

    /// The message as it was received.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The name of the queue that it came from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The number of this attempt; 1 is the first, `None` where the queue does not count.
    pub fn number(&self) -> Option<u32> {
        self.envelope.attempt
    }

    /// Decodes the body as JSON.
    ///
    /// # Errors
    ///
    /// A permanent [`Failure`] of class [`Undecodable`](crate::FailureClass::Undecodable): a body
    /// that does not decode now will not decode later.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        crate::codec::decode(self.envelope.message.body())
    }

    /// Cancelled when another consumer may already have the message.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, MessageId};

    fn attempt(body: &'static str) -> Attempt {
        Attempt::new(
            Envelope::new(MessageId::from(1), Message::new(body)),
            "orders",
        )
    }

    #[tokio::test]
    async fn a_plain_async_function_is_a_handler() {
        async fn count(attempt: Attempt) -> Result<(), Failure> {
            let n: u32 = attempt.json()?;
            if n > 3 {
                Err(Failure::retry("too many"))
            } else {
                Ok(())
            }
        }
        let handler: Arc<dyn Handler> = Arc::new(count);
        assert_eq!(handler.handle(attempt("3")).await, Outcome::Ack);
        assert_eq!(
            handler.handle(attempt("4")).await,
            Outcome::Retry {
                after: None,
                reason: "too many".into()
            }
        );
        let Outcome::DeadLetter { class, reason } = handler.handle(attempt("[")).await else {
            panic!("a body that does not decode must be dead-lettered");
        };
        assert_eq!(class, crate::FailureClass::Undecodable);
        assert!(
            reason.starts_with("the body is not the expected JSON: invalid type: sequence"),
            "{reason}"
        );
        let nested = crate::codec::decode::<Vec<u8>>(&"[1, \"x\"]".into()).unwrap_err();
        let reason = nested.to_string();
        assert!(reason.contains("expected JSON at [1]: invalid"), "{reason}");
    }
}
