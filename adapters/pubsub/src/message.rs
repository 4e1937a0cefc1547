//! Messages as Pub/Sub carries them.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use google_cloud_pubsub::model::Message as Raw;
use towpath_core::{
    Attributes, Envelope, Error, ErrorKind, FailureClass, FailureRecord, Message, MessageId,
    Result,
    wire::{self, BodyEncoding, Delayed, RESERVED_ATTRIBUTE, RESERVED_BYTES},
};

use crate::error::Operation;

// <https://cloud.google.com/pubsub/quotas#resource_limits>
/// The most attributes, less the reserved one.
pub(crate) const ATTRIBUTES: usize = 100 - 1;
/// The longest name of an attribute.
pub(crate) const ATTRIBUTE_NAME_BYTES: usize = 256;
/// The longest value of an attribute.
pub(crate) const ATTRIBUTE_VALUE_BYTES: usize = 1_024;
/// The longest ordering key.
pub(crate) const ORDERING_KEY_BYTES: usize = 1_024;
/// The largest request, which holds one message at least.
const REQUEST_BYTES: usize = 10_000_000;
/// What frames a message in a request, at most: its own tag and length, and those of its fields.
const MESSAGE_FRAME: usize = 32;
/// What frames an attribute: tags and lengths of the entry, its name and its value.
const ATTRIBUTE_FRAME: usize = 16;
/// The topic's name in the request: a project of up to 255 characters and a name of as many.
const TOPIC_BYTES: usize = 600;

/// The largest message as [`encoded_len`] counts it: a request, less its frame and the reserved
/// attribute.
pub(crate) const BYTES: usize =
    REQUEST_BYTES - TOPIC_BYTES - (RESERVED_ATTRIBUTE.len() + RESERVED_BYTES + ATTRIBUTE_FRAME);

/// No copy waits for longer: the service keeps messages for 31 days at most.
const LONGEST_REST: Duration = Duration::from_secs(32 * 86_400);

/// The attributes that the service adds when it moves a message to a dead-letter topic.
///
/// <https://cloud.google.com/pubsub/docs/handling-failures>
mod dead_letter {
    pub(super) const PREFIX: &str = "CloudPubSubDeadLetterSource";
    pub(super) const COUNT: &str = "CloudPubSubDeadLetterSourceDeliveryCount";
    pub(super) const SUBSCRIPTION: &str = "CloudPubSubDeadLetterSourceSubscription";
    pub(super) const PUBLISHED: &str = "CloudPubSubDeadLetterSourceTopicPublishTime";
}

/// The bytes that a message takes in a request, without the reserved attribute.
pub(crate) fn encoded_len(message: &Message) -> usize {
    let attributes: usize = message
        .attributes()
        .iter()
        .map(|(name, value)| name.len() + value.len() + ATTRIBUTE_FRAME)
        .sum();
    let key = message.ordering_key().map_or(0, str::len);
    MESSAGE_FRAME + message.body().len() + attributes + key
}

/// Refuses what Pub/Sub would refuse, because it refuses the whole request with it.
pub(crate) fn check(message: &Message, ordering: bool) -> Result<()> {
    let refused = |kind, text: String| Err(Operation::Send.error(kind, text));
    if message.delay() > Duration::ZERO {
        let text = "Pub/Sub cannot delay messages on send; send without a delay";
        return refused(ErrorKind::Unsupported, text.to_owned());
    }
    if message.dedup_id().is_some() {
        let text = "Pub/Sub has no deduplication; send without a deduplication id";
        return refused(ErrorKind::Unsupported, text.to_owned());
    }
    if let Some(key) = message.ordering_key() {
        if !ordering {
            let text = "the subscription has no ordering, or may not be read; send without an \
                        ordering key, or say ordering=true";
            return refused(ErrorKind::Unsupported, text.to_owned());
        }
        if key.is_empty() || key.len() > ORDERING_KEY_BYTES {
            let text = format!("an ordering key has 1 to {ORDERING_KEY_BYTES} bytes");
            return refused(ErrorKind::InvalidMessage, text);
        }
    }
    if message.attributes().len() > ATTRIBUTES {
        let text = format!(
            "{} attributes, and at most {ATTRIBUTES} are allowed",
            message.attributes().len()
        );
        return refused(ErrorKind::InvalidMessage, text);
    }
    for (name, value) in message.attributes().iter() {
        if let Some(why) = refused_attribute(name, value) {
            let text = format!("the attribute {name:?} {why}");
            return refused(ErrorKind::InvalidMessage, text);
        }
    }
    let len = encoded_len(message);
    if len > BYTES {
        let text = format!("the message has {len} bytes, and {BYTES} are allowed");
        return refused(ErrorKind::TooLarge, text);
    }
    Ok(())
}

fn refused_attribute(name: &str, value: &str) -> Option<String> {
    if name.is_empty() || name.len() > ATTRIBUTE_NAME_BYTES {
        return Some(format!(
            "has a name of {} bytes, and 1 to {ATTRIBUTE_NAME_BYTES} are allowed",
            name.len()
        ));
    }
    if name.eq_ignore_ascii_case(RESERVED_ATTRIBUTE) {
        return Some("is reserved; choose another name".to_owned());
    }
    if name.starts_with("goog") {
        return Some("begins with \"goog\", which Google reserves".to_owned());
    }
    (value.len() > ATTRIBUTE_VALUE_BYTES).then(|| {
        format!(
            "has {} bytes, and {ATTRIBUTE_VALUE_BYTES} are allowed",
            value.len()
        )
    })
}

/// The message as it is published.
pub(crate) fn to_raw(message: &Message) -> Raw {
    with_reserved(message, wire::reserved_value(message, BodyEncoding::Raw))
}

/// A copy of the message that waits for its time.
pub(crate) fn to_delayed(message: &Message, delayed: Delayed) -> Raw {
    let reserved = wire::delayed_value(message, BodyEncoding::Raw, delayed);
    with_reserved(message, reserved)
}

fn with_reserved(message: &Message, reserved: String) -> Raw {
    let mut attributes: HashMap<String, String> =
        HashMap::with_capacity(message.attributes().len() + 1);
    attributes.extend(
        message
            .attributes()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    // It also makes an empty body legal, which Pub/Sub carries beside an attribute only.
    attributes.insert(RESERVED_ATTRIBUTE.to_owned(), reserved);
    let raw = Raw::new()
        .set_data(message.body().clone())
        .set_attributes(attributes);
    match message.ordering_key() {
        Some(key) => raw.set_ordering_key(key),
        None => raw,
    }
}

/// The bytes that a received message holds in memory, roughly.
pub(crate) fn raw_len(raw: &Raw) -> usize {
    let attributes: usize = raw
        .attributes
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    raw.data.len() + attributes + raw.ordering_key.len()
}

/// When the service accepted a message.
pub(crate) fn published(raw: &Raw) -> Option<SystemTime> {
    SystemTime::try_from(raw.publish_time?).ok()
}

/// The message as it was received by `subscription`. Where it is a copy that came before its time:
/// also how long it has to wait.
pub(crate) fn to_envelope(
    raw: Raw,
    mut attempt: Option<u32>,
    subscription: &str,
) -> (Envelope, Option<(Duration, Delayed)>) {
    let mut sent_at = published(&raw);
    let id = MessageId::from(raw.message_id);
    let mut attributes = raw.attributes;
    let reserved = attributes.remove(RESERVED_ATTRIBUTE);
    let (mut message, delayed) = wire::restore_delayed(raw.data, &id, reserved.as_deref());
    let mut waits = None;
    // One that waits elsewhere was moved here, or is there as well.
    if let Some(delayed) = delayed.filter(|delayed| delayed.queue == subscription) {
        sent_at = delayed.first_sent().or(sent_at);
        let rest = delayed.rest(SystemTime::now());
        attempt = attempt.map(|attempt| {
            // Before its time it was not handed out, however often it was delivered.
            let own = if rest.is_zero() { attempt } else { 1 };
            delayed.attempts.saturating_add(own)
        });
        if rest > LONGEST_REST {
            tracing::warn!(%id, subscription, "a copy waits for a time that is too far away, so it is not waited for; look at the clocks");
        } else if !rest.is_zero() {
            waits = Some((rest, delayed));
        }
    }
    let moved = broker_failure(&mut attributes);
    if message.failure().is_none()
        && let Some(failure) = moved
    {
        message = message.with_failure(Some(failure));
    }
    if !attributes.is_empty() {
        message = message.with_attributes(Attributes::from_iter(attributes));
    }
    if !raw.ordering_key.is_empty() {
        message = message.with_ordering_key(raw.ordering_key);
    }
    let envelope = Envelope::new(id, message)
        .with_attempt(attempt)
        .with_sent_at(sent_at);
    (envelope, waits)
}

/// What the service says about a message that it moved to a dead-letter topic, taken out of the
/// attributes: they were not there when the message was sent.
fn broker_failure(attributes: &mut HashMap<String, String>) -> Option<FailureRecord> {
    let subscription = attributes.remove(dead_letter::SUBSCRIPTION)?;
    let count = attributes.remove(dead_letter::COUNT);
    let published = attributes.remove(dead_letter::PUBLISHED);
    attributes.retain(|name, _| !name.starts_with(dead_letter::PREFIX));
    let attempts = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    let mut record = FailureRecord::new(
        FailureClass::AttemptsExhausted,
        format!("Pub/Sub moved it after {attempts} deliveries that nobody acked"),
        subscription,
    );
    record.attempts = attempts;
    record.first_sent_ms = published
        .and_then(|time| google_cloud_wkt::Timestamp::try_from(time.as_str()).ok())
        .and_then(|time| SystemTime::try_from(time).ok())
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_millis()).ok());
    Some(record)
}

/// An error about a message that belongs to no message: for results that got lost.
pub(crate) fn no_result() -> Error {
    Operation::Send.error(
        ErrorKind::Unknown,
        "the task that publishes ended without a result; whether the message was sent is unknown",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: &Message) -> Option<ErrorKind> {
        check(message, true).err().map(|error| error.kind())
    }

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let message = Message::new(vec![0xff, 0, 7])
            .with_attribute("tenant", "acme")
            .with_attribute("empty", "")
            .with_ordering_key("customer-4");
        let raw = to_raw(&message).set_message_id("17");
        assert!(!raw.attributes[RESERVED_ATTRIBUTE].is_empty());
        let (envelope, _) = to_envelope(raw, Some(2), "s");
        assert_eq!(envelope.message, message);
        assert_eq!(envelope.id.to_string(), "17");
        assert_eq!(envelope.attempt, Some(2));
    }

    #[test]
    fn a_copy_goes_on_where_the_message_stopped() {
        let first = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let message = Message::new("").with_ordering_key("k");
        let copy = |delay: i64, queue: &str| {
            let now = SystemTime::now();
            let by = Duration::from_secs(delay.unsigned_abs());
            let due = if delay < 0 { now - by } else { now + by };
            let delayed = Delayed::new(queue, due)
                .with_attempts(3)
                .with_first_sent(Some(first));
            to_delayed(&message, delayed).set_message_id("18")
        };
        let (envelope, waits) = to_envelope(copy(60, "s"), Some(4), "s");
        let (rest, delayed) = waits.expect("it waits");
        assert!(rest > Duration::from_secs(50) && rest <= Duration::from_secs(61));
        assert_eq!((delayed.attempts, delayed.queue.as_str()), (3, "s"));
        assert_eq!(envelope.message, message);
        assert_eq!(envelope.sent_at, Some(first));
        // Nobody has seen the copy, however often it was delivered.
        assert_eq!(envelope.attempt, Some(4));

        let (envelope, waits) = to_envelope(copy(-1, "s"), Some(2), "s");
        assert_eq!((envelope.attempt, waits), (Some(5), None));
        let (envelope, waits) = to_envelope(copy(-1, "s"), None, "s");
        assert_eq!((envelope.attempt, waits), (None, None));
        // What would wait for ever has a wrong clock.
        let (_, waits) = to_envelope(copy(40 * 86_400, "s"), None, "s");
        assert_eq!(waits, None);
        // Elsewhere, as in a dead-letter queue, it is a message like any other.
        let (envelope, waits) = to_envelope(copy(60, "s"), Some(2), "dlq");
        assert_eq!((envelope.attempt, waits), (Some(2), None));
        assert_eq!(
            (envelope.message, envelope.sent_at),
            (message.clone(), None)
        );
    }

    #[test]
    fn a_message_of_another_producer_is_taken_as_it_is() {
        let raw = Raw::new()
            .set_data("hi")
            .set_message_id("17")
            .set_attributes([("a", "1")]);
        let (envelope, _) = to_envelope(raw, None, "s");
        assert_eq!(envelope.message.body(), "hi");
        assert_eq!(envelope.message.attributes().get("a"), Some("1"));
        assert_eq!(envelope.message.ordering_key(), None);
        assert_eq!(envelope.sent_at, None);
    }

    #[test]
    fn what_the_service_moved_says_so_and_has_its_own_attributes_only() {
        let message = Message::new("x").with_attribute("tenant", "acme");
        let mut raw = to_raw(&message);
        for (name, value) in [
            (dead_letter::COUNT, "5"),
            (dead_letter::SUBSCRIPTION, "orders"),
            (dead_letter::PUBLISHED, "2026-01-02T03:04:05.678+00:00"),
            ("CloudPubSubDeadLetterSourceSubscriptionProject", "p"),
        ] {
            raw.attributes.insert(name.to_owned(), value.to_owned());
        }
        let found = to_envelope(raw, None, "s").0.message;
        assert_eq!(found.attributes(), message.attributes());
        assert_eq!(found.idempotency_key(), message.idempotency_key());
        let failure = found.failure().unwrap();
        assert_eq!(failure.class, FailureClass::AttemptsExhausted);
        assert_eq!((failure.attempts, failure.queue.as_str()), (5, "orders"));
        assert_eq!(failure.first_sent_ms, Some(1_767_323_045_678));
    }

    #[test]
    fn what_pubsub_refuses_is_refused_before() {
        let with = |name: &str, value: &str| Message::new("x").with_attribute(name, value);
        let many = |count: usize| {
            let attributes = (0..count).map(|i| (format!("a{i}"), "v"));
            Message::new("x").with_attributes(attributes.collect())
        };
        let invalid = Some(ErrorKind::InvalidMessage);
        for (message, refused) in [
            (Message::new(""), None),
            (many(ATTRIBUTES), None),
            (many(ATTRIBUTES + 1), invalid),
            (with("", "v"), invalid),
            (with(&"n".repeat(256), "v"), None),
            (with(&"n".repeat(257), "v"), invalid),
            (with("n", &"v".repeat(1_024)), None),
            (with("n", &"v".repeat(1_025)), invalid),
            (with("n", ""), None),
            (with("googclient", "v"), invalid),
            (with("Towpath", "v"), invalid),
            (Message::new("x").with_ordering_key("k".repeat(1_024)), None),
            (
                Message::new("x").with_ordering_key("k".repeat(1_025)),
                invalid,
            ),
            (Message::new("x").with_ordering_key(""), invalid),
            (
                Message::new("x").with_delay(Duration::from_secs(1)),
                Some(ErrorKind::Unsupported),
            ),
            (
                Message::new("x").with_dedup_id("1"),
                Some(ErrorKind::Unsupported),
            ),
            (Message::new(vec![0; BYTES - MESSAGE_FRAME]), None),
            (
                Message::new(vec![0; BYTES - MESSAGE_FRAME + 1]),
                Some(ErrorKind::TooLarge),
            ),
        ] {
            assert_eq!(kind(&message), refused, "{message:?}");
        }
        let keyed = Message::new("x").with_ordering_key("k");
        assert_eq!(
            check(&keyed, false).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn the_largest_message_fits_a_request_with_the_reserved_attribute() {
        let full = Message::new(vec![0; BYTES - MESSAGE_FRAME]);
        let raw = to_raw(&full);
        assert!(raw_len(&raw) + TOPIC_BYTES + MESSAGE_FRAME <= REQUEST_BYTES);
    }
}
