//! What you receive.

use std::{fmt, sync::Arc, time::SystemTime};

use crate::Message;

/// A message as it was received: the message, the broker's id, and how often it was tried.
///
/// Plain data: cloning or dropping it settles nothing. The right to settle is the
/// [`Delivery`](crate::Delivery).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Envelope {
    /// The broker's id. It changes on redrive; [`Message::idempotency_key`] does not.
    pub id: MessageId,
    /// The message as it was sent.
    pub message: Message,
    /// Which attempt this is: 1 is the first. Deliveries that this process gave back unhandled are
    /// left out. `None` where the queue does not count attempts; see
    /// [`Capabilities::attempts`](crate::Capabilities::attempts).
    pub attempt: Option<u32>,
    /// When the queue accepted the message, by the queue's clock.
    pub sent_at: Option<SystemTime>,
}

impl Envelope {
    /// An envelope without attempt and time.
    pub fn new(id: MessageId, message: Message) -> Self {
        Self {
            id,
            message,
            attempt: None,
            sent_at: None,
        }
    }

    /// Sets the number of the attempt; 1 is the first.
    #[must_use]
    pub fn with_attempt(mut self, attempt: Option<u32>) -> Self {
        self.attempt = attempt;
        self
    }

    /// Sets when the queue accepted the message.
    #[must_use]
    pub fn with_sent_at(mut self, sent_at: Option<SystemTime>) -> Self {
        self.sent_at = sent_at;
        self
    }
}

/// The broker's id of an accepted message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MessageId(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Number(u64),
    Text(Arc<str>),
}

impl From<u64> for MessageId {
    fn from(number: u64) -> Self {
        Self(Repr::Number(number))
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        Self(Repr::Text(text.into()))
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> Self {
        Self(Repr::Text(text.into()))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Number(number) => number.fmt(f),
            Repr::Text(text) => text.fmt(f),
        }
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}
