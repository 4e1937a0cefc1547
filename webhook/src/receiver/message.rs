//! From a request to a message.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header::CONTENT_TYPE};
use serde_json::Value;
use sha2::{Digest, Sha256};
use towpath_core::{Attributes, Message, portable};

use super::source::{Source, scalar};

/// The message for a request: the exact body; content type, source, time of receipt, scheme and
/// listed headers as attributes.
pub(super) fn message(
    source: &Source,
    headers: &HeaderMap,
    body: Bytes,
    document: Option<&Value>,
    received_at: SystemTime,
) -> Message {
    let received_at = humantime::format_rfc3339_millis(received_at).to_string();
    let mut attributes = Attributes::from_iter([
        ("webhook-source", source.name().to_owned()),
        ("webhook-received-at", received_at),
        ("webhook-verified", source.scheme.to_owned()),
    ]);
    for name in std::iter::once(&CONTENT_TYPE).chain(&source.headers) {
        match value(headers, name) {
            Ok(Some(value)) => drop(attributes.insert(name.as_str(), value)),
            Ok(None) => {}
            Err(why) => {
                tracing::warn!(source = source.name(), header = %name, why, "a header was left out");
            }
        }
    }
    let key = source.ordering_key.as_ref().and_then(|pointer| {
        let key = document?.pointer(pointer).and_then(scalar);
        key.filter(|key| !key.is_empty())
    });
    let message = Message::new(body).with_attributes(attributes);
    match key {
        Some(key) => message.with_ordering_key(portable_key(key)),
        None => message,
    }
}

/// The value of a header as an attribute; several are joined as HTTP does.
fn value(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, &'static str> {
    let mut joined = String::new();
    for value in headers.get_all(name) {
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| "it is not UTF-8")?;
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(text);
    }
    if joined.len() > portable::ATTRIBUTE_VALUE_BYTES {
        return Err("it is longer than 1024 bytes");
    }
    if joined
        .chars()
        .any(|c| c.is_control() && c != '\t' || ['\u{fffe}', '\u{ffff}'].contains(&c))
    {
        return Err("it has characters that no queue carries");
    }
    Ok(Some(joined).filter(|value| !value.is_empty()))
}

/// The key as it is where every queue carries it, else a hash of it.
fn portable_key(key: String) -> String {
    let is_portable =
        key.len() <= portable::ORDERING_KEY_BYTES && key.bytes().all(|b| b.is_ascii_graphic());
    if is_portable {
        key
    } else {
        format!("sha256-{}", hex::encode(Sha256::digest(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_not_every_queue_carries_is_hashed() {
        assert_eq!(portable_key("customer-4".to_owned()), "customer-4");
        for key in ["josé@büro.example", "a b", &"x".repeat(129)] {
            let hashed = portable_key(key.to_owned());
            assert!(
                hashed.starts_with("sha256-") && hashed.len() == 71,
                "{hashed}"
            );
            assert_eq!(hashed, portable_key(key.to_owned()));
        }
    }

    #[test]
    fn a_header_that_no_queue_carries_is_an_error_and_several_are_joined() {
        let name = HeaderName::from_static("x-a");
        let joined = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, http::HeaderValue::from_bytes(value).unwrap());
            }
            value(&headers, &name)
        };
        assert_eq!(joined(&[b"a", b"b"]), Ok(Some("a, b".to_owned())));
        assert_eq!(joined(&[]), Ok(None));
        assert_eq!(joined(&[b""]), Ok(None));
        assert!(joined(&[b"\xff"]).is_err());
        assert!(joined(&[&[b'x'; 1_025]]).is_err());
        assert!(joined(&["\u{ffff}".as_bytes()]).is_err());
    }
}
