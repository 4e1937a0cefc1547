//! What is refused before it is sent.

use serde::{Deserialize, Serialize};

use crate::{Capabilities, Error, ErrorKind, Message, Result, wire};

/// Which bounds a message must keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validation {
    /// Bounds that hold on both clouds, so that what runs on one does not fail on the other. See
    /// [`portable`].
    #[default]
    Portable,
    /// Only the opened queue's own bounds.
    Native,
}

/// Bounds that hold on both clouds.
///
/// Sources: [SQS quotas], [SQS message attributes], [Pub/Sub quotas].
///
/// [SQS quotas]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
/// [SQS message attributes]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
/// [Pub/Sub quotas]: https://cloud.google.com/pubsub/quotas
pub mod portable {
    use std::{ops::RangeInclusive, time::Duration};

    /// The largest body in bytes: 720 KiB, which is below 1 MiB as base64 too.
    pub const BODY_BYTES: usize = 720 * 1_024;
    /// The most attributes of the user's own.
    pub const ATTRIBUTES: usize = 8;
    /// The longest attribute name in bytes.
    pub const ATTRIBUTE_NAME_BYTES: usize = 256;
    /// The longest attribute value in bytes.
    pub const ATTRIBUTE_VALUE_BYTES: usize = 1_024;
    /// The longest ordering key in bytes.
    pub const ORDERING_KEY_BYTES: usize = 128;
    /// The longest delay of a nack.
    pub const NACK_DELAY: Duration = Duration::from_secs(600);
    /// The lengths of a lease.
    pub const LEASE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);
    /// The limits on attempts.
    pub const ATTEMPTS: RangeInclusive<u32> = 5..=100;
}

/// Checks `message` against the queue's capabilities, and the portable bounds where wanted.
///
/// `encoded_len` is what the driver says the message takes.
pub(crate) fn check(
    message: &Message,
    encoded_len: usize,
    capabilities: &Capabilities,
    validation: Validation,
) -> Result<()> {
    let limits = &capabilities.limits;
    let is_portable = validation == Validation::Portable;
    let bound = |native: usize, portable: usize| {
        if is_portable {
            native.min(portable)
        } else {
            native
        }
    };

    if message.body().is_empty() && (is_portable || !limits.empty_body) {
        return Err(invalid("the body is empty; send at least one byte"));
    }
    if is_portable && message.body().len() > portable::BODY_BYTES {
        return Err(too_large(
            "body",
            message.body().len(),
            portable::BODY_BYTES,
        ));
    }
    if encoded_len > limits.message_bytes {
        return Err(too_large(
            "encoded message",
            encoded_len,
            limits.message_bytes,
        ));
    }
    if !message.attributes().is_empty() {
        let most = bound(limits.attributes, portable::ATTRIBUTES);
        if message.attributes().len() > most {
            return Err(invalid(format!(
                "{} attributes, and at most {most} are allowed; put the others into the body",
                message.attributes().len(),
            )));
        }
        let name_bytes = bound(limits.attribute_name_bytes, portable::ATTRIBUTE_NAME_BYTES);
        let value_bytes = bound(
            limits.attribute_value_bytes,
            portable::ATTRIBUTE_VALUE_BYTES,
        );
        for (name, value) in message.attributes().iter() {
            check_attribute_name(name, name_bytes, is_portable)?;
            let may_be_empty = limits.empty_attribute_value && !is_portable;
            check_attribute_value(name, value, value_bytes, may_be_empty, is_portable)?;
        }
    }
    if let Some(key) = message.ordering_key() {
        if !capabilities.ordering {
            return Err(unsupported(
                "has no ordering; send without an ordering key, or to an ordered queue",
            ));
        }
        check_ordering_key(
            key,
            bound(limits.ordering_key_bytes, portable::ORDERING_KEY_BYTES),
            is_portable,
        )?;
    }
    if let Some(id) = message.dedup_id() {
        if capabilities.dedup_window.is_none() {
            return Err(unsupported(
                "has no deduplication; send without a deduplication id",
            ));
        }
        if id.is_empty() || id.len() > 128 || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(invalid(
                "a deduplication id is 1 to 128 bytes of printable ASCII",
            ));
        }
    }
    if message.delay() > limits.delay {
        return Err(if limits.delay.is_zero() {
            unsupported("cannot delay messages on send; send without a delay")
        } else {
            unsupported(format!(
                "delays messages by at most {}, and {} was asked for",
                humantime::format_duration(limits.delay),
                humantime::format_duration(message.delay()),
            ))
        });
    }
    Ok(())
}

fn check_attribute_name(name: &str, most: usize, is_portable: bool) -> Result<()> {
    if name.is_empty() || name.len() > most {
        return Err(invalid(format!(
            "the attribute name {name:?} must have 1 to {most} bytes"
        )));
    }
    if name.eq_ignore_ascii_case(wire::RESERVED_ATTRIBUTE) {
        return Err(invalid(format!(
            "the attribute name {name:?} is reserved; choose another"
        )));
    }
    if !is_portable {
        return Ok(());
    }
    let begins = |prefix: &&&str| {
        let beginning = name.as_bytes().get(..prefix.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if let Some(prefix) = ["aws.", "amazon.", "goog"].iter().find(begins) {
        return Err(invalid(format!(
            "the attribute name {name:?} starts with {prefix:?}, which a cloud reserves"
        )));
    }
    let legal = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !legal || name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err(invalid(format!(
            "the attribute name {name:?} may have letters, digits, `_`, `-` and single dots inside"
        )));
    }
    Ok(())
}

fn check_attribute_value(
    name: &str,
    value: &str,
    most: usize,
    may_be_empty: bool,
    is_portable: bool,
) -> Result<()> {
    if value.is_empty() && !may_be_empty {
        return Err(invalid(format!(
            "the attribute {name:?} is empty; leave it out, or give it a value"
        )));
    }
    if value.len() > most {
        return Err(too_large(&format!("attribute {name:?}"), value.len(), most));
    }
    if is_portable
        && !wire::is_plain(value)
        && let Some(c) = value.chars().find(|c| !wire::is_xml_legal(*c))
    {
        return Err(invalid(format!(
            "the attribute {name:?} has the character {:?}, which not every cloud carries",
            c
        )));
    }
    Ok(())
}

fn check_ordering_key(key: &str, most: usize, is_portable: bool) -> Result<()> {
    let legal = !is_portable || key.bytes().all(|b| b.is_ascii_graphic());
    if key.is_empty() || key.len() > most || !legal {
        return Err(invalid(format!(
            "an ordering key is 1 to {most} bytes of printable ASCII, and {key:?} is not"
        )));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidMessage, message).with_operation("send")
}

fn unsupported(what: impl AsRef<str>) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("this queue {}", what.as_ref()),
    )
    .with_operation("send")
}

fn too_large(what: &str, actual: usize, limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the {what} has {actual} bytes, and {limit} are allowed"),
    )
    .with_operation("send")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Lease, Limits};

    fn queue() -> Capabilities {
        let duration = Duration::from_secs(30);
        Capabilities::new(
            Limits::default(),
            Lease::Extended {
                duration,
                range: duration..=duration,
                max_total: Duration::MAX,
            },
        )
    }

    fn kind(
        message: Message,
        capabilities: &Capabilities,
        validation: Validation,
    ) -> Option<ErrorKind> {
        let len = message.body().len();
        check(&message, len, capabilities, validation)
            .err()
            .map(|error| error.kind())
    }

    #[test]
    fn portable_bounds_are_refused_and_native_lifts_them() {
        use ErrorKind::{InvalidMessage, TooLarge, Unsupported};
        let many = (0..9).map(|i| (format!("a{i}"), "v")).collect();
        let named = |name: &str| Message::new("x").with_attribute(name, "v");
        let table = [
            (Message::new(""), Some(InvalidMessage), None),
            (Message::new(vec![0; portable::BODY_BYTES]), None, None),
            (
                Message::new(vec![0; portable::BODY_BYTES + 1]),
                Some(TooLarge),
                None,
            ),
            (
                Message::new("x").with_attributes(many),
                Some(InvalidMessage),
                None,
            ),
            (named("ok-1.b_c"), None, None),
            (named(""), Some(InvalidMessage), Some(InvalidMessage)),
            (named("towpath"), Some(InvalidMessage), Some(InvalidMessage)),
            (named("Towpath"), Some(InvalidMessage), Some(InvalidMessage)),
            (named(".a"), Some(InvalidMessage), None),
            (named("a."), Some(InvalidMessage), None),
            (named("a..b"), Some(InvalidMessage), None),
            (named("AWS.x"), Some(InvalidMessage), None),
            (named("googclient"), Some(InvalidMessage), None),
            (named("sp ace"), Some(InvalidMessage), None),
            (named(&"a".repeat(257)), Some(InvalidMessage), None),
            (
                Message::new("x").with_attribute("a", ""),
                Some(InvalidMessage),
                None,
            ),
            (
                Message::new("x").with_attribute("a", "\u{1}"),
                Some(InvalidMessage),
                None,
            ),
            (
                Message::new("x").with_attribute("a", "é".repeat(512)),
                None,
                None,
            ),
            (
                Message::new("x").with_attribute("a", "é".repeat(513)),
                Some(TooLarge),
                None,
            ),
            (
                Message::new("x").with_ordering_key("k"),
                Some(Unsupported),
                Some(Unsupported),
            ),
            (
                Message::new("x").with_dedup_id("k"),
                Some(Unsupported),
                Some(Unsupported),
            ),
            (
                Message::new("x").with_delay(Duration::from_secs(1)),
                Some(Unsupported),
                Some(Unsupported),
            ),
        ];
        for (message, portable, native) in table {
            let shown = format!("{message:?}");
            assert_eq!(
                kind(message.clone(), &queue(), Validation::Portable),
                portable,
                "{shown}"
            );
            assert_eq!(
                kind(message, &queue(), Validation::Native),
                native,
                "{shown}"
            );
        }
    }

    #[test]
    fn the_queue_s_own_limits_hold_in_both_modes() {
        let mut small = queue();
        small.limits.message_bytes = 4;
        small.limits.delay = Duration::from_secs(900);
        small.ordering = true;
        for validation in [Validation::Portable, Validation::Native] {
            assert_eq!(
                kind("12345".into(), &small, validation),
                Some(ErrorKind::TooLarge)
            );
            let late = Message::new("x").with_delay(Duration::from_secs(901));
            assert_eq!(kind(late, &small, validation), Some(ErrorKind::Unsupported));
            let keyed = Message::new("x").with_ordering_key("customer-1");
            assert_eq!(kind(keyed, &small, validation), None);
        }
        let spaced = Message::new("x").with_ordering_key("a b");
        assert_eq!(
            kind(spaced, &small, Validation::Portable),
            Some(ErrorKind::InvalidMessage)
        );
    }
}
