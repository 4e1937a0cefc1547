//! What you send.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use crate::{Attributes, FailureRecord};

/// A message to send: a body, attributes, and a few options.
///
/// Plain data: cloning it sends and settles nothing, and is cheap.
///
/// ```
/// use std::time::Duration;
/// use towpath_core::Message;
///
/// let message = Message::new(r#"{"order": 17}"#)
///     .with_attribute("content-type", "application/json")
///     .with_ordering_key("customer-4")
///     .with_delay(Duration::from_secs(30));
/// assert_eq!(message.body(), r#"{"order": 17}"#);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    body: Bytes,
    idempotency_key: Uuid,
    attributes: Attributes,
    rare: Option<Arc<Rare>>,
}

/// What most messages do not have, kept out of the way so that a queued message stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    ordering_key: Option<String>,
    dedup_id: Option<String>,
    delay: Duration,
    failure: Option<FailureRecord>,
}

impl Message {
    /// A message with this body and a fresh [idempotency key](Self::idempotency_key).
    ///
    /// Any bytes are allowed; text travels as it is, so that other languages can read it.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            idempotency_key: uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes())
                .into_uuid(),
            attributes: Attributes::new(),
            rare: None,
        }
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// A stable identity of the message: the same in every attempt, in retry copies, in the
    /// dead-letter queue and after a redrive, while the broker's own id may change.
    ///
    /// Send it as `Idempotency-Key` to systems that support one.
    pub fn idempotency_key(&self) -> Uuid {
        self.idempotency_key
    }

    /// Messages of one ordering key are delivered in order, one at a time.
    pub fn ordering_key(&self) -> Option<&str> {
        self.rare.as_ref()?.ordering_key.as_deref()
    }

    /// Messages with one deduplication id are accepted once within the queue's window.
    pub fn dedup_id(&self) -> Option<&str> {
        self.rare.as_ref()?.dedup_id.as_deref()
    }

    /// How long the message stays invisible after it was sent. Zero unless set.
    pub fn delay(&self) -> Duration {
        self.rare.as_ref().map_or(Duration::ZERO, |rare| rare.delay)
    }

    /// Why and where the message failed before, on messages of a dead-letter queue.
    pub fn failure(&self) -> Option<&FailureRecord> {
        self.rare.as_ref()?.failure.as_ref()
    }

    /// Replaces the body and keeps everything else.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets one attribute.
    ///
    /// Portable bounds: at most 8 attributes; name 1 to 256 bytes of `A-Za-z0-9_.-`, not starting
    /// with a dot; value 1 to 1,024 bytes of UTF-8 without control characters. The name `towpath`
    /// is reserved.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name, value);
        self
    }

    /// Replaces all attributes.
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Sets the idempotency key, for instance one derived from another system's event id.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: Uuid) -> Self {
        self.idempotency_key = key;
        self
    }

    /// Delivers the messages of `key` in order, one at a time. Portable bounds: 1 to 128 bytes of
    /// printable ASCII. Refused by queues without ordering.
    #[must_use]
    pub fn with_ordering_key(self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.edit(|rare| rare.ordering_key = Some(key))
    }

    /// Accepts messages of this deduplication id once within the queue's window. Refused by
    /// queues without deduplication.
    #[must_use]
    pub fn with_dedup_id(self, id: impl Into<String>) -> Self {
        let id = id.into();
        self.edit(|rare| rare.dedup_id = Some(id))
    }

    /// Keeps the message invisible for `delay` after it was sent. Refused where it is longer than
    /// [`Limits::delay`](crate::Limits::delay).
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        self.edit(|rare| rare.delay = delay)
    }

    /// Attaches or removes the failure record.
    #[must_use]
    pub fn with_failure(self, failure: Option<FailureRecord>) -> Self {
        if failure.is_none() && self.rare.is_none() {
            return self;
        }
        self.edit(|rare| rare.failure = failure)
    }

    /// Removes ordering key, deduplication id, delay and failure record.
    pub(crate) fn without_options(mut self) -> Self {
        self.rare = None;
        self
    }

    fn edit(mut self, edit: impl FnOnce(&mut Rare)) -> Self {
        edit(Arc::make_mut(self.rare.get_or_insert_default()));
        if self.rare.as_deref() == Some(&Rare::default()) {
            self.rare = None;
        }
        self
    }
}

impl<T: Into<Bytes>> From<T> for Message {
    fn from(body: T) -> Self {
        Self::new(body)
    }
}

/// Shows the length of the body, never its content.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Message");
        s.field("body_bytes", &self.body.len())
            .field("attributes", &self.attributes)
            .field("idempotency_key", &self.idempotency_key);
        if let Some(rare) = &self.rare {
            s.field("ordering_key", &rare.ordering_key)
                .field("dedup_id", &rare.dedup_id)
                .field("delay", &rare.delay)
                .field("failure", &rare.failure);
        }
        s.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_body() {
        let shown = format!("{:?}", Message::new("my secret"));
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("body_bytes: 9"), "{shown}");
    }

    #[test]
    fn a_message_stays_small() {
        assert!(size_of::<Message>() <= 64);
    }

    #[test]
    fn options_set_back_to_their_default_equal_none() {
        let message = Message::new("x").with_delay(Duration::from_secs(1));
        let same = message.clone().with_delay(Duration::ZERO);
        assert_eq!(same.rare, None);
        assert_eq!(same.idempotency_key(), message.idempotency_key());
    }

    #[test]
    fn fresh_messages_have_different_idempotency_keys() {
        assert_ne!(
            Message::new("x").idempotency_key(),
            Message::new("x").idempotency_key()
        );
    }
}
