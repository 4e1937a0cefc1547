//! What a handler decides about a message.

use std::time::Duration;

use crate::{Failure, FailureClass};

/// What is to happen with a message after its handler ran.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an outcome settles nothing by itself"]
pub enum Outcome {
    /// Done: the message is removed from the queue.
    Ack,
    /// Failed for now: the message is tried again, and dead-lettered when the attempts run out.
    Retry {
        /// The least time before the next attempt; `None` leaves it to the retry policy.
        after: Option<Duration>,
        /// Why it failed, in words.
        reason: String,
    },
    /// Not tried, because of the handler's own state (a breaker is open, a rate is used up): the
    /// message is given back. The worker does not count it as an attempt; runtimes that cannot
    /// tell treat it as [`Retry`](Self::Retry).
    Release {
        /// The least time before the next attempt; `None` is at once.
        after: Option<Duration>,
        /// Why it was not tried, in words.
        reason: String,
    },
    /// Failed for good: the message goes to the dead-letter queue.
    DeadLetter {
        /// The class of the failure.
        class: FailureClass,
        /// Why it failed, in words.
        reason: String,
    },
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        let reason = failure.reason().to_owned();
        match failure.class() {
            Some(class) => Self::DeadLetter {
                class: class.clone(),
                reason,
            },
            None if failure.is_release() => Self::Release {
                after: failure.after(),
                reason,
            },
            None => Self::Retry {
                after: failure.after(),
                reason,
            },
        }
    }
}

impl<E: Into<Failure>> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Ack,
            Err(error) => error.into().into(),
        }
    }
}
