//! The one reserved attribute that every backend carries, as JSON that any language can read.
//!
//! ```json
//! {"key":"8a0c2c5e-6c7b-4d43-8a63-0d2b8f0f6a53","body":"base64","failure":{"reason":"..", ..}}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `key` | the [idempotency key](Message::idempotency_key), a UUID |
//! | `body` | `base64` where the cloud carries text only and the body is not text; absent otherwise |
//! | `failure` | the [`FailureRecord`] of a message in a dead-letter queue |
//! | `delayed` | the time that a copy waits for, and its past: [`Delayed`] |
//!
//! A message of another producer need not have the attribute: its key is then derived from the
//! broker's id, and its body is taken as it is.

mod delayed;
pub mod sqs;

pub use delayed::Delayed;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{FailureRecord, Message, MessageId};

/// The name of the reserved attribute.
pub const RESERVED_ATTRIBUTE: &str = "towpath";

/// The most bytes that the value of the reserved attribute takes (the bound of Pub/Sub's
/// attribute values). Backends keep this much room free in every message.
pub const RESERVED_BYTES: usize = 1_024;

/// How the body is written on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BodyEncoding {
    /// As it is.
    #[default]
    Raw,
    /// As base64, padded, standard alphabet.
    Base64,
}

#[derive(Serialize, Deserialize)]
struct Reserved {
    key: Uuid,
    #[serde(default, skip_serializing_if = "is_raw")]
    body: BodyEncoding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<FailureRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delayed: Option<Delayed>,
}

fn is_raw(encoding: &BodyEncoding) -> bool {
    *encoding == BodyEncoding::Raw
}

/// Writes the value of the reserved attribute, at most [`RESERVED_BYTES`] of XML-legal text.
///
/// A failure record that is too long is shortened: its reason first, then what else is free text.
pub fn reserved_value(message: &Message, body: BodyEncoding) -> String {
    value(message, body, None)
}

/// As [`reserved_value`], for a copy that waits for its time.
pub fn delayed_value(message: &Message, body: BodyEncoding, delayed: Delayed) -> String {
    value(message, body, Some(delayed))
}

fn value(message: &Message, body: BodyEncoding, delayed: Option<Delayed>) -> String {
    let mut reserved = Reserved {
        key: message.idempotency_key(),
        body,
        failure: message.failure().cloned(),
        delayed,
    };
    let mut text = to_text(&reserved);
    while text.len() > RESERVED_BYTES {
        let Some(failure) = reserved.failure.as_mut() else {
            break;
        };
        let excess = text.len() - RESERVED_BYTES;
        if !failure.reason.is_empty() {
            shorten(&mut failure.reason, excess);
        } else if let crate::FailureClass::Other(class) = &mut failure.class
            && class.len() > 32
        {
            shorten(class, excess);
        } else if !failure.message_id.is_empty() {
            failure.message_id.clear();
        } else if failure.ordering_key.is_some() {
            failure.ordering_key = None;
        } else {
            reserved.failure = None;
        }
        text = to_text(&reserved);
    }
    text
}

fn to_text(reserved: &Reserved) -> String {
    // Strings, numbers and UUIDs always have a JSON form.
    let text = serde_json::to_string(reserved).unwrap_or_default();
    if is_plain(&text) || text.chars().all(is_xml_legal) {
        text
    } else {
        text.chars()
            .map(|c| if is_xml_legal(c) { c } else { '\u{fffd}' })
            .collect()
    }
}

/// Cuts at least `excess` bytes, and three more for the mark that it was cut.
fn shorten(text: &mut String, excess: usize) {
    let mut keep = text.len().saturating_sub(excess + 3);
    while !text.is_char_boundary(keep) {
        keep -= 1;
    }
    text.truncate(keep);
    if keep > 0 {
        text.push('…');
    }
}

/// Whether SQS carries this character: `#x9 | #xA | #xD | #x20-#xD7FF | #xE000-#xFFFD |
/// #x10000-#x10FFFF`.
///
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
pub fn is_xml_legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The body as it is, where it is text that SQS carries.
fn as_text(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    (is_plain(text) || text.chars().all(is_xml_legal)).then_some(text)
}

/// Whether a text has neither control characters nor what is beyond ASCII, as most have.
pub(crate) fn is_plain(text: &str) -> bool {
    text.bytes()
        .fold(true, |is_plain, b| is_plain & matches!(b, b' '..=b'~'))
}

/// The body as text, for clouds that carry text only: as it is where it is legal, else as base64.
pub fn body_to_text(body: &[u8]) -> (std::borrow::Cow<'_, str>, BodyEncoding) {
    match as_text(body) {
        Some(text) => (text.into(), BodyEncoding::Raw),
        None => (BASE64_STANDARD.encode(body).into(), BodyEncoding::Base64),
    }
}

/// How many bytes [`body_to_text`] makes of `body`.
pub fn body_text_len(body: &[u8]) -> usize {
    match as_text(body) {
        Some(text) => text.len(),
        None => body.len().div_ceil(3) * 4,
    }
}

/// Rebuilds the message from a body, the broker's id and the value of the reserved attribute.
///
/// What cannot be understood is passed on rather than lost: without a readable reserved attribute
/// the body is taken as it is and the idempotency key is derived from the broker's id.
pub fn restore(body: Bytes, id: &MessageId, reserved: Option<&str>) -> Message {
    restore_delayed(body, id, reserved).0
}

/// As [`restore`], and what a copy says that waits for its time.
pub fn restore_delayed(
    body: Bytes,
    id: &MessageId,
    reserved: Option<&str>,
) -> (Message, Option<Delayed>) {
    let parsed = reserved.and_then(|text| {
        serde_json::from_str::<Reserved>(text)
            .inspect_err(|error| {
                tracing::warn!(%id, %error, "the reserved attribute is not readable");
            })
            .ok()
    });
    let Some(reserved) = parsed else {
        let key = Uuid::new_v5(&Uuid::NAMESPACE_OID, id.to_string().as_bytes());
        return (Message::new(body).with_idempotency_key(key), None);
    };
    let body = match reserved.body {
        BodyEncoding::Raw => body,
        BodyEncoding::Base64 => match BASE64_STANDARD.decode(&body) {
            Ok(decoded) => decoded.into(),
            Err(error) => {
                tracing::warn!(%id, %error, "the body is not the base64 that it is marked as");
                body
            }
        },
    };
    let message = Message::new(body)
        .with_idempotency_key(reserved.key)
        .with_failure(reserved.failure);
    (message, reserved.delayed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureClass;
    use proptest::prelude::*;

    #[test]
    fn a_message_of_another_producer_gets_a_stable_key() {
        let id = MessageId::from("abc");
        let first = restore(Bytes::from("x"), &id, None);
        let second = restore(Bytes::from("x"), &id, Some("not json"));
        assert_eq!(first, second);
        assert_ne!(
            first.idempotency_key(),
            restore("x".into(), &"abd".into(), None).idempotency_key()
        );
    }

    proptest! {
        #[test]
        fn the_reserved_value_is_bounded_legal_and_readable(
            reason in any::<String>(), class in any::<String>(), queue in "[a-z]{3,75}",
            id in "[ -~]{0,300}", key in proptest::option::of("[ -~]{1,128}"),
        ) {
            let mut failure = FailureRecord::new(FailureClass::Other(class), reason.repeat(40), queue);
            failure.message_id = id;
            failure.ordering_key = key;
            let message = Message::new("x").with_failure(Some(failure));
            let text = reserved_value(&message, BodyEncoding::Base64);
            prop_assert!(text.len() <= RESERVED_BYTES);
            prop_assert!(text.chars().all(is_xml_legal));
            let back = restore("eA==".into(), &1.into(), Some(&text));
            prop_assert_eq!(back.idempotency_key(), message.idempotency_key());
            prop_assert_eq!(&back.body()[..], b"x");
            prop_assert!(back.failure().is_some());
        }

        #[test]
        fn any_body_survives_as_text(body in any::<Vec<u8>>()) {
            let (text, encoding) = body_to_text(&body);
            prop_assert!(text.chars().all(is_xml_legal));
            prop_assert_eq!(text.len(), body_text_len(&body));
            let value = reserved_value(&Message::new("x"), encoding);
            let back = restore(text.into_owned().into(), &1.into(), Some(&value));
            prop_assert_eq!(&back.body()[..], &body[..]);
        }
    }
}
