//! The clouds that a queue can stand in for: their limits, guarantees and refusals.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_core::{
    AckStatus, Attempts, Capabilities, Error, ErrorKind, Lease, Limits, Message, Precision, Result,
    portable, wire,
};

use crate::{dedup, settings::Settings};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// The longest delay and the longest lease of a strict queue.
const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// The size of an SQS message, and of a batch.
const SQS_BYTES: usize = 1_024 * 1_024;
/// The size of a Pub/Sub message, and of a batch.
const PUBSUB_BYTES: usize = 10_000_000;
/// How long Pub/Sub keeps messages, unless told otherwise: the longest delay of a nack.
const PUBSUB_RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// How long a message is held for the delay of a nack, which is all where Pub/Sub orders.
const PUBSUB_HELD: Duration = portable::NACK_DELAY;
/// What an SQS attribute takes beside name and value: its type.
const SQS_TYPE: usize = "String".len();

/// The cloud whose limits and guarantees a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Profile {
    /// Everything the contract knows, at its strictest: exact, ordered, confirmed. The default.
    #[default]
    Strict,
    /// An SQS standard queue.
    Sqs,
    /// An SQS FIFO queue.
    SqsFifo,
    /// A Pub/Sub subscription.
    Pubsub,
    /// A Pub/Sub subscription with ordering.
    PubsubOrdered,
    /// A Pub/Sub subscription with exactly-once delivery.
    PubsubExactlyOnce,
}

impl Profile {
    /// The name as it is written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Sqs => "sqs",
            Self::SqsFifo => "sqs-fifo",
            Self::Pubsub => "pubsub",
            Self::PubsubOrdered => "pubsub-ordered",
            Self::PubsubExactlyOnce => "pubsub-exactly-once",
        }
    }

    pub(crate) fn is_sqs(self) -> bool {
        matches!(self, Self::Sqs | Self::SqsFifo)
    }

    pub(crate) fn is_pubsub(self) -> bool {
        matches!(
            self,
            Self::Pubsub | Self::PubsubOrdered | Self::PubsubExactlyOnce
        )
    }

    /// Whether the profile honours ordering keys unless the options say otherwise.
    pub(crate) fn is_ordered(self) -> bool {
        matches!(self, Self::Strict | Self::SqsFifo | Self::PubsubOrdered)
    }

    /// Whether `ordered` may be set to the other value.
    pub(crate) fn may_choose_order(self) -> bool {
        matches!(self, Self::Strict | Self::PubsubExactlyOnce)
    }

    /// Whether an ack that returned `Ok` holds.
    pub(crate) fn is_confirmed(self) -> bool {
        matches!(self, Self::Strict | Self::SqsFifo | Self::PubsubExactlyOnce)
    }

    /// The lengths of a lease.
    pub(crate) fn lease_range(self) -> std::ops::RangeInclusive<Duration> {
        match self {
            Self::Strict => Duration::from_millis(1)..=MONTH,
            Self::Sqs | Self::SqsFifo => SECOND..=12 * HOUR,
            _ => 10 * SECOND..=600 * SECOND,
        }
    }

    /// The limits on deliveries of the broker's own dead-letter policy.
    pub(crate) fn deliveries_range(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Self::Strict => 1..=u32::MAX,
            Self::Sqs | Self::SqsFifo => 1..=1_000,
            _ => 5..=100,
        }
    }

    fn limits(self) -> Limits {
        let mut limits = Limits::default();
        match self {
            Self::Strict => {
                limits.delay = MONTH;
                limits.nack_delay = MONTH;
            }
            Self::Sqs | Self::SqsFifo => {
                let reserved = wire::RESERVED_ATTRIBUTE.len() + SQS_TYPE + wire::RESERVED_BYTES;
                limits.message_bytes = SQS_BYTES - reserved;
                limits.empty_body = false;
                // One of the ten is reserved.
                limits.attributes = 9;
                limits.attribute_name_bytes = 256;
                limits.attribute_value_bytes = SQS_BYTES - reserved;
                limits.empty_attribute_value = false;
                limits.ordering_key_bytes = 128;
                limits.send_batch = 10;
                limits.send_batch_bytes = SQS_BYTES - 10 * reserved;
                limits.receive_batch = 10;
                limits.settle_batch = 10;
                limits.wait = 20 * SECOND;
                limits.delay = if self == Self::Sqs {
                    900 * SECOND
                } else {
                    Duration::ZERO
                };
                limits.nack_delay = 12 * HOUR;
            }
            Self::Pubsub | Self::PubsubOrdered | Self::PubsubExactlyOnce => {
                let reserved = wire::RESERVED_ATTRIBUTE.len() + wire::RESERVED_BYTES;
                limits.message_bytes = PUBSUB_BYTES - reserved;
                // One of the hundred is reserved; it makes an empty body legal.
                limits.attributes = 99;
                limits.attribute_name_bytes = 256;
                limits.attribute_value_bytes = 1_024;
                limits.ordering_key_bytes = 1_024;
                limits.send_batch = 1_000;
                limits.send_batch_bytes = PUBSUB_BYTES - 1_000 * reserved;
                limits.receive_batch = 1_000;
                limits.settle_batch = 1_000;
                limits.nack_delay = PUBSUB_RETENTION;
            }
        }
        limits
    }

    /// The bytes that a message takes, as the cloud counts them.
    pub(crate) fn encoded_len(self, message: &Message) -> usize {
        let (body, per_attribute) = if self.is_sqs() {
            (wire::body_text_len(message.body()), SQS_TYPE)
        } else {
            (message.body().len(), 0)
        };
        let attributes = message.attributes();
        if attributes.is_empty() {
            return body;
        }
        attributes
            .iter()
            .map(|(name, value)| name.len() + value.len() + per_attribute)
            .fold(body, usize::saturating_add)
    }
}

/// What a queue of these settings can do, with leases of `lease`.
pub(crate) fn capabilities(settings: &Settings, lease: Duration) -> Capabilities {
    let profile = settings.profile;
    let lease = if profile.is_pubsub() {
        Lease::Managed { max_total: lease }
    } else {
        Lease::Extended {
            duration: lease,
            range: profile.lease_range(),
            max_total: max_total(profile),
        }
    };
    let mut capabilities = Capabilities::new(profile.limits(), lease);
    capabilities.ordering = settings.ordered;
    if profile.is_pubsub() && settings.ordered {
        capabilities.limits.nack_delay = PUBSUB_HELD;
    }
    capabilities.attempts = attempts(settings);
    capabilities.ack = if profile.is_confirmed() {
        AckStatus::Confirmed
    } else {
        AckStatus::Submitted
    };
    capabilities.broker_dead_letter = settings.policy.is_some();
    if matches!(profile, Profile::Strict | Profile::SqsFifo) {
        capabilities.dedup_window = Some(dedup::WINDOW);
    }
    capabilities.depth = depth(profile);
    capabilities.oldest_age = profile == Profile::Strict;
    capabilities.purge = true;
    capabilities.gather = false;
    capabilities.cancel_safe_receive = true;
    capabilities
}

/// How well the depth of a queue is known.
pub(crate) fn depth(profile: Profile) -> Precision {
    match profile {
        Profile::Strict => Precision::Exact,
        Profile::Sqs | Profile::SqsFifo => Precision::Approximate,
        _ => Precision::Unknown,
    }
}

/// How attempts are counted. Pub/Sub counts them only where a dead-letter policy needs it.
pub(crate) fn attempts(settings: &Settings) -> Attempts {
    match settings.profile {
        Profile::Strict => Attempts::Exact,
        Profile::Sqs | Profile::SqsFifo => Attempts::Approximate,
        _ if settings.policy.is_some() => Attempts::Approximate,
        _ => Attempts::Uncounted,
    }
}

/// The longest that a message is held in all.
pub(crate) fn max_total(profile: Profile) -> Duration {
    match profile {
        Profile::Strict => MONTH,
        Profile::Sqs | Profile::SqsFifo => 12 * HOUR,
        // What the client library of Pub/Sub extends leases to, unless told otherwise.
        _ => HOUR,
    }
}

/// Refuses what the queue does not carry.
///
/// # Errors
///
/// As the cloud would: `InvalidMessage`, `TooLarge`, `Unsupported`.
pub(crate) fn check_message(
    message: &Message,
    settings: &Settings,
    capabilities: &Capabilities,
) -> Result<()> {
    let limits = &capabilities.limits;
    let unsupported = |what: &str| Err(refuse(ErrorKind::Unsupported, what));
    if message.ordering_key().is_some() && !capabilities.ordering {
        return unsupported("the queue has no ordering; send without an ordering key");
    }
    if message.dedup_id().is_some() && capabilities.dedup_window.is_none() {
        return unsupported("the queue has no deduplication; send without a deduplication id");
    }
    if message.delay() > limits.delay {
        return unsupported(&format!(
            "the queue delays messages by at most {}, and {} was asked for",
            humantime::format_duration(limits.delay),
            humantime::format_duration(message.delay()),
        ));
    }
    if settings.profile == Profile::Strict {
        return Ok(());
    }
    let invalid = |what: &str| Err(refuse(ErrorKind::InvalidMessage, what));
    if message.body().is_empty() && !limits.empty_body {
        return invalid("the body is empty; send at least one byte");
    }
    let bytes = settings.profile.encoded_len(message);
    if bytes > limits.message_bytes {
        return Err(refuse(
            ErrorKind::TooLarge,
            &format!(
                "the message has {bytes} bytes, and {} are allowed",
                limits.message_bytes
            ),
        ));
    }
    if message.attributes().len() > limits.attributes {
        return invalid(&format!(
            "{} attributes, and at most {} are allowed",
            message.attributes().len(),
            limits.attributes
        ));
    }
    for (name, value) in message.attributes().iter() {
        if let Some(why) = attribute_fault(settings.profile, name, value, limits) {
            return invalid(&format!("the attribute {name:?} {why}"));
        }
    }
    if let Some(key) = message.ordering_key()
        && (key.is_empty() || key.len() > limits.ordering_key_bytes)
    {
        return invalid(&format!(
            "an ordering key has 1 to {} bytes",
            limits.ordering_key_bytes
        ));
    }
    Ok(())
}

fn attribute_fault(
    profile: Profile,
    name: &str,
    value: &str,
    limits: &Limits,
) -> Option<&'static str> {
    if name.is_empty() || name.len() > limits.attribute_name_bytes {
        return Some("has a name that is empty or too long");
    }
    if value.len() > limits.attribute_value_bytes {
        return Some("has a value that is too long");
    }
    if value.is_empty() && !limits.empty_attribute_value {
        return Some("has no value");
    }
    if profile.is_pubsub() {
        return name
            .starts_with("goog")
            .then_some("starts with \"goog\", which is reserved");
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("aws.") || lower.starts_with("amazon.") {
        return Some("starts with a reserved prefix");
    }
    let is_legal = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..");
    if !is_legal {
        return Some("may have letters, digits, `_`, `-` and single dots inside");
    }
    (!value.chars().all(wire::is_xml_legal)).then_some("has a character that XML does not carry")
}

fn refuse(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message)
        .with_backend("memory")
        .with_operation("send")
}
