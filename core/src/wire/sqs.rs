//! A message as SQS hands it out, whether by ReceiveMessage or in the event of a Lambda function.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{RESERVED_ATTRIBUTE, restore};
use crate::{Attributes, Envelope, MessageId};

/// The attribute of W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// The envelope of a message of SQS.
///
/// `attributes` are the message attributes as text: numbers as they are written, bytes as base64.
/// `system` finds a system attribute by its name, for instance `SentTimestamp`. On FIFO queues the
/// message group is the ordering key, unless it is the message's own idempotency key, which stands
/// for none.
pub fn envelope<'a>(
    id: MessageId,
    body: impl Into<Bytes>,
    attributes: impl IntoIterator<Item = (String, String)>,
    system: impl Fn(&str) -> Option<&'a str>,
    is_fifo: bool,
) -> Envelope {
    let mut reserved = None;
    // Most messages have no attributes but the reserved one, and then none are made.
    let mut attributes: Attributes = attributes
        .into_iter()
        .filter_map(|(name, value)| {
            if name == RESERVED_ATTRIBUTE {
                reserved = Some(value);
                return None;
            }
            Some((name, value))
        })
        .collect();
    if attributes.get(TRACEPARENT).is_none()
        && let Some(parent) = system("AWSTraceHeader").and_then(traceparent)
    {
        attributes.insert(TRACEPARENT, parent);
    }
    let mut message = restore(body.into(), &id, reserved.as_deref()).with_attributes(attributes);
    if is_fifo
        && let Some(group) = system("MessageGroupId")
        && group != message.idempotency_key().to_string()
    {
        message = message.with_ordering_key(group);
    }
    let number = |name| system(name)?.parse::<u64>().ok();
    let attempt = number("ApproximateReceiveCount").and_then(|count| count.try_into().ok());
    let sent_at = number("SentTimestamp")
        .and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    Envelope::new(id, message)
        .with_attempt(attempt)
        .with_sent_at(sent_at)
}

/// W3C trace context from an X-Ray header:
/// `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`.
fn traceparent(header: &str) -> Option<String> {
    let field = |name: &str| {
        header
            .split(';')
            .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let (time, unique) = field("Root")?.strip_prefix("1-")?.split_once('-')?;
    let parent = field("Parent")?;
    if time.len() != 8 || unique.len() != 24 || parent.len() != 16 {
        return None;
    }
    if !is_hex(time) || !is_hex(unique) || !is_hex(parent) {
        return None;
    }
    let sampled = if field("Sampled") == Some("1") {
        "01"
    } else {
        "00"
    };
    Some(format!("00-{time}{unique}-{parent}-{sampled}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Message,
        wire::{body_to_text, reserved_value},
    };

    fn system<'a>(pairs: &[(&str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
        move |name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| *value)
        }
    }

    #[test]
    fn a_message_survives_the_wire() {
        for body in [&b"text \xc3\xa9"[..], b"\x00\xff", b"with \x01 control"] {
            let message = Message::new(body.to_vec())
                .with_attribute("a", "1")
                .with_ordering_key("customer-1");
            let (text, encoding) = body_to_text(message.body());
            let attributes = [
                ("a".to_owned(), "1".to_owned()),
                (
                    RESERVED_ATTRIBUTE.to_owned(),
                    reserved_value(&message, encoding),
                ),
            ];
            let system = system(&[
                ("ApproximateReceiveCount", "3"),
                ("SentTimestamp", "1700000000123"),
                ("MessageGroupId", "customer-1"),
            ]);
            let back = envelope("id-1".into(), text.into_owned(), attributes, &system, true);
            assert_eq!(back.message, message);
            assert_eq!(back.attempt, Some(3));
            assert_eq!(
                back.sent_at,
                Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123))
            );
        }
    }

    #[test]
    fn a_group_is_an_ordering_key_on_fifo_queues_and_where_it_is_not_the_message_itself() {
        let message = Message::new("x");
        let key = message.idempotency_key().to_string();
        let reserved = reserved_value(&message, Default::default());
        let read = |group: &str, is_fifo| {
            let attributes = [(RESERVED_ATTRIBUTE.to_owned(), reserved.clone())];
            let system = |name: &str| (name == "MessageGroupId").then_some(group);
            let envelope = envelope(1.into(), "x", attributes, system, is_fifo);
            envelope.message.ordering_key().map(str::to_owned)
        };
        assert_eq!(read("g", true).as_deref(), Some("g"));
        assert_eq!(read("g", false), None);
        assert_eq!(read(&key, true), None);
    }

    #[test]
    fn an_x_ray_header_is_a_trace_context_where_there_is_no_other() {
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let read = |header: &str, own: Option<&str>| {
            let attributes = own.map(|own| (TRACEPARENT.to_owned(), own.to_owned()));
            let system = |name: &str| (name == "AWSTraceHeader").then_some(header);
            let envelope = envelope(1.into(), "x", attributes, system, false);
            envelope
                .message
                .attributes()
                .get(TRACEPARENT)
                .map(str::to_owned)
        };
        assert_eq!(
            read(header, None).as_deref(),
            Some("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01")
        );
        assert_eq!(read(header, Some("own")).as_deref(), Some("own"));
        for header in ["", "Root=1-5759e988-zz;Parent=1", "Root=1;Parent=2", "Root"] {
            assert_eq!(read(header, None), None, "{header}");
        }
    }

    #[test]
    fn counts_and_times_that_are_no_numbers_are_left_out() {
        let system = system(&[("ApproximateReceiveCount", "many"), ("SentTimestamp", "-1")]);
        let envelope = envelope(1.into(), "x", [], system, false);
        assert_eq!((envelope.attempt, envelope.sent_at), (None, None));
    }
}
