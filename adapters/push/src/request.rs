//! From a push request to an envelope.

use std::{collections::BTreeMap, time::SystemTime};

use axum::http::{HeaderMap, HeaderName};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use towpath_core::{
    Attributes, Envelope, MessageId,
    wire::{self, RESERVED_ATTRIBUTE},
};

/// The prefix of the headers that carry the metadata of an unwrapped message.
const METADATA: &str = "x-goog-pubsub-";
/// Headers of the transport, which are no attributes. Prefixes end with `-`.
const TRANSPORT: [&str; 18] = [
    "accept",
    "accept-",
    "authorization",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "from",
    "host",
    "proxy-",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-cloud-trace-context",
    "x-forwarded-",
    "x-goog-",
];

/// A message as it was pushed.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// The full name of the subscription, where the request tells it.
    pub(crate) subscription: Option<String>,
    pub(crate) envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wrapped {
    message: WrappedMessage,
    subscription: Option<String>,
    delivery_attempt: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrappedMessage {
    // The documented requests have the id and the time twice, in both spellings.
    message_id: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    publish_time: Option<String>,
    ordering_key: Option<String>,
}

/// Reads a request of either form. The error says what is wrong with it.
pub(crate) fn read(headers: &HeaderMap, body: Bytes) -> Result<Pushed, String> {
    if headers.contains_key("x-goog-pubsub-message-id") {
        return unwrapped(headers, body);
    }
    let wrapped: Wrapped = serde_json::from_slice(&body).map_err(|error| {
        format!(
            "the request is no wrapped message ({error}), and has no metadata of an unwrapped one"
        )
    })?;
    let message = wrapped.message;
    let data = BASE64_STANDARD
        .decode(&message.data)
        .map_err(|error| format!("the data of the message is no base64: {error}"))?;
    let envelope = envelope(
        message.message_id,
        data.into(),
        message.attributes,
        message.ordering_key,
        message.publish_time.as_deref(),
    )?;
    Ok(Pushed {
        subscription: wrapped.subscription,
        envelope: envelope.with_attempt(wrapped.delivery_attempt),
    })
}

/// Metadata and attributes are in headers, whose names have lost their case.
fn unwrapped(headers: &HeaderMap, body: Bytes) -> Result<Pushed, String> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let metadata = |name: &str| {
        let value = headers.get(format!("{METADATA}{name}"))?;
        Some(text(value.as_bytes()))
    };
    let attributes = headers
        .iter()
        .filter(|(name, _)| !is_transport(name))
        .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
        .collect();
    let envelope = envelope(
        metadata("message-id").unwrap_or_default(),
        body,
        attributes,
        metadata("ordering-key"),
        metadata("publish-time").as_deref(),
    )?;
    let attempt = metadata("delivery-attempt").and_then(|attempt| attempt.parse().ok());
    Ok(Pushed {
        subscription: metadata("subscription-name"),
        envelope: envelope.with_attempt(attempt),
    })
}

fn is_transport(name: &HeaderName) -> bool {
    TRANSPORT.iter().any(|known| {
        name.as_str() == *known || (known.ends_with('-') && name.as_str().starts_with(known))
    })
}

fn envelope(
    id: String,
    body: Bytes,
    mut attributes: BTreeMap<String, String>,
    ordering_key: Option<String>,
    published: Option<&str>,
) -> Result<Envelope, String> {
    if id.is_empty() {
        return Err("the message has no id".into());
    }
    let id = MessageId::from(id);
    let reserved = attributes.remove(RESERVED_ATTRIBUTE);
    let mut message = wire::restore(body, &id, reserved.as_deref());
    if !attributes.is_empty() {
        message = message.with_attributes(Attributes::from_iter(attributes));
    }
    if let Some(key) = ordering_key.filter(|key| !key.is_empty()) {
        message = message.with_ordering_key(key);
    }
    let sent_at: Option<SystemTime> =
        published.and_then(|time| humantime::parse_rfc3339(time).ok());
    Ok(Envelope::new(id, message).with_sent_at(sent_at))
}
