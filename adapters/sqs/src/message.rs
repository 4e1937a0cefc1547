//! A message on the wire: entries of SendMessageBatch, and what ReceiveMessage returns.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::{
    Message as SqsMessage, MessageAttributeValue, MessageSystemAttributeName as System,
    SendMessageBatchRequestEntry,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::time::Instant;
use towpath_core::{
    Error, ErrorKind, Message, MessageId, Result,
    driver::{Receipt, Received},
    wire::{self, RESERVED_ATTRIBUTE, is_xml_legal},
};

use crate::{
    capabilities::{DELAY, STRING},
    digest::{self, Digest},
    operation::Operation,
};

/// What settles a message.
#[derive(Debug)]
pub(crate) struct Handle {
    /// SQS's receipt handle.
    pub(crate) receipt: String,
    /// When the message came in.
    pub(crate) since: Instant,
}

/// An entry of SendMessageBatch, and the digests that SQS must answer with.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) request: SendMessageBatchRequestEntry,
    pub(crate) expected: Expected,
}

/// What SQS must answer with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) body_md5: Digest,
    pub(crate) attributes_md5: Digest,
}

/// The bytes that `message` takes towards SQS's limits, without the reserved attribute.
pub(crate) fn encoded_len(message: &Message) -> usize {
    let attributes: usize = message
        .attributes()
        .iter()
        .map(|(name, value)| name.len() + STRING.len() + value.len())
        .sum();
    wire::body_text_len(message.body()) + attributes
}

/// Writes `message` as the entry `id`. `dedup_id` is there for FIFO queues, and only for them.
pub(crate) fn encode(id: usize, message: &Message, dedup_id: Option<String>) -> Result<Entry> {
    let is_fifo = dedup_id.is_some();
    check(message, is_fifo)?;

    let (body, encoding) = wire::body_to_text(message.body());
    let reserved = wire::reserved_value(message, encoding);
    let attributes = message
        .attributes()
        .iter()
        .map(|(name, value)| Ok((name.to_owned(), text(value)?)))
        .chain([text(reserved).map(|value| (RESERVED_ATTRIBUTE.to_owned(), value))])
        .collect::<Result<HashMap<_, _>>>()?;

    let expected = Expected {
        body_md5: digest::of_body(&body),
        attributes_md5: digest::of_attributes(&attributes),
    };
    let mut request = SendMessageBatchRequestEntry::builder()
        .id(id.to_string())
        .message_body(body)
        .set_message_attributes(Some(attributes));
    if !message.delay().is_zero() {
        request = request.delay_seconds(seconds_up(message.delay()));
    }
    if is_fifo {
        // Without an ordering key each message is a group of its own, and waits for no other.
        let group = match message.ordering_key() {
            Some(key) => key.to_owned(),
            None => message.idempotency_key().to_string(),
        };
        request = request
            .message_group_id(group)
            .set_message_deduplication_id(dedup_id);
    }
    let request = request.build().map_err(|error| {
        refused(ErrorKind::Unknown, "the entry cannot be made").with_source(error)
    })?;
    Ok(Entry { request, expected })
}

fn text(value: impl Into<String>) -> Result<MessageAttributeValue> {
    MessageAttributeValue::builder()
        .data_type(STRING)
        .string_value(value)
        .build()
        .map_err(|error| {
            refused(ErrorKind::Unknown, "the attribute cannot be made").with_source(error)
        })
}

/// Refuses what SQS would refuse, so that it does not take a whole request with it, and what it
/// would ignore.
fn check(message: &Message, is_fifo: bool) -> Result<()> {
    let invalid = |text: String| Err(refused(ErrorKind::InvalidMessage, text));
    if message.body().is_empty() {
        return invalid("SQS carries no empty body; send at least one byte".to_owned());
    }
    for (name, value) in message.attributes().iter() {
        let lower = name.to_ascii_lowercase();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if name.is_empty()
            || name.len() > 256
            || !name.bytes().all(legal)
            || name.starts_with('.')
            || name.ends_with('.')
            || name.contains("..")
            || lower.starts_with("aws.")
            || lower.starts_with("amazon.")
        {
            return invalid(format!(
                "SQS takes no attribute named {name:?}: it has 1 to 256 letters, digits, `_`, `-` \
                 and single dots inside, and does not start with `AWS.` or `Amazon.`"
            ));
        }
        if name == RESERVED_ATTRIBUTE {
            return invalid(format!(
                "the attribute name {name:?} is reserved; choose another"
            ));
        }
        if value.is_empty() {
            return invalid(format!(
                "the attribute {name:?} is empty, which SQS does not carry; leave it out"
            ));
        }
        if let Some(c) = value.chars().find(|c| !is_xml_legal(*c)) {
            return invalid(format!(
                "the attribute {name:?} has the character {c:?}, which SQS does not carry"
            ));
        }
    }
    for (what, id) in [
        ("ordering key", message.ordering_key()),
        ("deduplication id", message.dedup_id()),
    ] {
        let Some(id) = id else { continue };
        if !is_fifo {
            return Err(refused(
                ErrorKind::Unsupported,
                format!("a standard queue has no {what}; leave it out, or use a FIFO queue"),
            ));
        }
        if id.is_empty() || id.len() > 128 || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return invalid(format!(
                "SQS takes 1 to 128 bytes of printable ASCII as {what}, and {id:?} is not"
            ));
        }
    }
    if !message.delay().is_zero() && is_fifo {
        return Err(refused(
            ErrorKind::Unsupported,
            "a FIFO queue delays no single message; send without a delay",
        ));
    }
    if message.delay() > DELAY {
        return Err(refused(
            ErrorKind::Unsupported,
            format!(
                "SQS delays a message by 15 min at most, and {} was asked for",
                humantime::format_duration(message.delay())
            ),
        ));
    }
    Ok(())
}

fn refused(kind: ErrorKind, message: impl Into<String>) -> Error {
    Operation::Send.error(kind, message)
}

/// Whole seconds, rounded up: what waits must not come early.
pub(crate) fn seconds_up(duration: Duration) -> i32 {
    let begun = u64::from(duration.subsec_nanos() > 0);
    let seconds = duration.as_secs().saturating_add(begun);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

/// What [`decode`] reads of SQS's own attributes; asking for all would cost time and bytes.
pub(crate) fn system_attributes(is_fifo: bool) -> Vec<System> {
    let mut names = vec![
        System::ApproximateReceiveCount,
        System::SentTimestamp,
        System::AwsTraceHeader,
    ];
    if is_fifo {
        names.push(System::MessageGroupId);
    }
    names
}

/// Why a received message is not handed out.
pub(crate) fn fault(message: &SqsMessage) -> Option<&'static str> {
    if message.receipt_handle.is_none() {
        return Some("it came without a receipt handle");
    }
    let Some(body) = &message.body else {
        return Some("it came without a body");
    };
    if let Some(md5) = &message.md5_of_body
        && !digest::of_body(body).is(md5)
    {
        return Some("its body does not match the MD5 of SQS");
    }
    let no_attributes = HashMap::new();
    let attributes = message
        .message_attributes
        .as_ref()
        .unwrap_or(&no_attributes);
    if let Some(md5) = &message.md5_of_message_attributes
        && !digest::of_attributes(attributes).is(md5)
    {
        return Some("its attributes do not match the MD5 of SQS");
    }
    None
}

/// Reads a message without [`fault`].
pub(crate) fn decode(message: SqsMessage, is_fifo: bool, since: Instant) -> Received {
    let receipt = message.receipt_handle.unwrap_or_default();
    let body = message.body.unwrap_or_default();
    let id = MessageId::from(message.message_id.unwrap_or_default());
    let system = message.attributes.unwrap_or_default();
    let attributes = message
        .message_attributes
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name, text_of(value)));
    let system = |name: &str| system.get(&System::from(name)).map(String::as_str);
    let envelope = wire::sqs::envelope(id, body, attributes, system, is_fifo);
    Received::new(envelope, Receipt::new(Handle { receipt, since }))
}

/// Attributes are text here: numbers as they are written, bytes as base64.
fn text_of(value: MessageAttributeValue) -> String {
    match (value.string_value, value.binary_value) {
        (Some(text), _) => text,
        (None, Some(bytes)) => BASE64_STANDARD.encode(bytes),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sqs::primitives::Blob;
    use std::time::SystemTime;

    /// What SQS would hand out for `entry`.
    fn received(entry: &SendMessageBatchRequestEntry) -> SqsMessage {
        let attributes = entry.message_attributes().cloned().unwrap_or_default();
        let mut message = SqsMessage::builder()
            .message_id("id-1")
            .receipt_handle("handle")
            .body(entry.message_body())
            .md5_of_body(digest::of_body(entry.message_body()).to_hex())
            .md5_of_message_attributes(digest::of_attributes(&attributes).to_hex())
            .set_message_attributes(Some(attributes))
            .attributes(System::ApproximateReceiveCount, "3")
            .attributes(System::SentTimestamp, "1700000000123");
        if let Some(group) = entry.message_group_id() {
            message = message.attributes(System::MessageGroupId, group);
        }
        message.build()
    }

    #[test]
    fn a_message_survives_the_wire() {
        for body in [&b"text \xc3\xa9"[..], b"\x00\xff", b"with \x01 control"] {
            let message = Message::new(body.to_vec())
                .with_attribute("a", "1")
                .with_ordering_key("customer-1");
            let entry = encode(4, &message, Some("d".to_owned())).unwrap();
            assert_eq!(entry.request.id(), "4");
            assert_eq!(entry.request.message_group_id(), Some("customer-1"));
            assert_eq!(entry.request.message_deduplication_id(), Some("d"));
            let back = decode(received(&entry.request), true, Instant::now());
            assert_eq!(back.envelope.message, message);
            assert_eq!(back.envelope.attempt, Some(3));
            assert_eq!(
                back.envelope.sent_at,
                Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123))
            );
        }
    }

    #[test]
    fn without_an_ordering_key_each_message_is_a_group_of_its_own_that_is_not_shown() {
        let messages = [Message::new("x"), Message::new("x")];
        let groups: Vec<_> = messages
            .iter()
            .map(|message| {
                let entry = encode(0, message, Some("d".to_owned())).unwrap();
                let back = decode(received(&entry.request), true, Instant::now());
                assert_eq!(back.envelope.message.ordering_key(), None);
                entry.request.message_group_id().unwrap().to_owned()
            })
            .collect();
        assert_ne!(groups[0], groups[1]);
    }

    #[test]
    fn a_delay_is_rounded_up_to_whole_seconds() {
        let message = Message::new("x").with_delay(Duration::from_millis(1_001));
        let entry = encode(0, &message, None).unwrap();
        assert_eq!(entry.request.delay_seconds(), Some(2));
        assert_eq!(seconds_up(Duration::from_secs(2)), 2);
        assert_eq!(seconds_up(Duration::MAX), i32::MAX);
    }

    #[test]
    fn what_sqs_would_refuse_or_ignore_is_refused_per_entry() {
        use ErrorKind::{InvalidMessage, Unsupported};
        let x = || Message::new("x");
        let table = [
            (Message::new(""), false, InvalidMessage),
            (x().with_attribute("a b", "v"), false, InvalidMessage),
            (x().with_attribute("AWS.x", "v"), false, InvalidMessage),
            (x().with_attribute("amazon.x", "v"), false, InvalidMessage),
            (x().with_attribute(".a", "v"), false, InvalidMessage),
            (x().with_attribute("a..b", "v"), false, InvalidMessage),
            (
                x().with_attribute("a".repeat(257), "v"),
                false,
                InvalidMessage,
            ),
            (x().with_attribute("towpath", "v"), false, InvalidMessage),
            (x().with_attribute("a", ""), false, InvalidMessage),
            (x().with_attribute("a", "\u{1}"), false, InvalidMessage),
            (x().with_ordering_key("k"), false, Unsupported),
            (x().with_dedup_id("k"), false, Unsupported),
            (x().with_ordering_key("a b"), true, InvalidMessage),
            (x().with_dedup_id("d".repeat(129)), true, InvalidMessage),
            (x().with_delay(Duration::from_secs(1)), true, Unsupported),
            (x().with_delay(Duration::from_secs(901)), false, Unsupported),
        ];
        for (message, is_fifo, kind) in table {
            let dedup = is_fifo.then(|| "d".to_owned());
            let error = encode(0, &message, dedup).unwrap_err();
            assert_eq!(error.kind(), kind, "{message:?}: {error}");
        }
    }

    #[test]
    fn the_size_counts_names_types_and_values_but_not_the_reserved_attribute() {
        let message = Message::new("12345").with_attribute("ab", "xyz");
        assert_eq!(encoded_len(&message), 5 + 2 + 6 + 3);
        assert_eq!(encoded_len(&Message::new(&b"\xff\xff\xff\xff"[..])), 8);
    }

    #[test]
    fn foreign_attributes_of_every_type_are_readable() {
        let typed = |kind: &str| MessageAttributeValue::builder().data_type(kind);
        let message = SqsMessage::builder()
            .message_id("id-1")
            .receipt_handle("handle")
            .body("plain")
            .message_attributes("n", typed("Number.int").string_value("7").build().unwrap())
            .message_attributes("s", typed("String.x").string_value("v").build().unwrap())
            .message_attributes(
                "b",
                typed("Binary")
                    .binary_value(Blob::new([0, 255]))
                    .build()
                    .unwrap(),
            )
            .attributes(
                System::AwsTraceHeader,
                "Root=1-5759E988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            )
            .build();
        let back = decode(message, false, Instant::now()).envelope;
        let attributes = back.message.attributes();
        assert_eq!(attributes.get("n"), Some("7"));
        assert_eq!(attributes.get("s"), Some("v"));
        assert_eq!(attributes.get("b"), Some("AP8="));
        assert_eq!(
            attributes.get("traceparent"),
            Some("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01")
        );
        assert_eq!(back.attempt, None);
    }

    #[test]
    fn a_message_that_was_changed_on_its_way_is_not_handed_out() {
        let entry = encode(0, &Message::new("x").with_attribute("a", "1"), None).unwrap();
        let sent = received(&entry.request);
        assert_eq!(fault(&sent), None);

        let mut body = sent.clone();
        body.body = Some("y".to_owned());
        assert!(fault(&body).unwrap().contains("body"));

        let mut attributes = sent.clone();
        attributes.message_attributes.as_mut().unwrap().remove("a");
        assert!(fault(&attributes).unwrap().contains("attributes"));
        attributes.message_attributes = None;
        assert!(fault(&attributes).unwrap().contains("attributes"));

        let mut unsettleable = sent;
        unsettleable.receipt_handle = None;
        assert!(fault(&unsettleable).unwrap().contains("receipt"));
    }
}
