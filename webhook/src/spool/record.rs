//! A message as bytes in the file.
//!
//! One byte for the version, four (little endian) for the length of the head, the head as JSON, and
//! the body as it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use towpath_core::{FailureRecord, Message};
use uuid::Uuid;

const VERSION: u8 = 1;
const PREFIX: usize = 5;

#[derive(Serialize, Deserialize)]
struct Head {
    key: Uuid,
    /// When it was spooled, in milliseconds since 1970.
    at: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dedup_id: Option<String>,
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    delay: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<FailureRecord>,
}

/// A message ready to be written: the body is not copied before it goes into the file.
#[derive(Debug)]
pub(super) struct Record {
    head: Vec<u8>,
    body: Bytes,
    pub(super) at: SystemTime,
}

impl Record {
    pub(super) fn new(message: &Message, at: SystemTime) -> Result<Self, String> {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let head = Head {
            key: message.idempotency_key(),
            at: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            attributes: message
                .attributes()
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            ordering_key: message.ordering_key().map(str::to_owned),
            dedup_id: message.dedup_id().map(str::to_owned),
            delay: message.delay(),
            failure: message.failure().cloned(),
        };
        let json = serde_json::to_vec(&head).map_err(|error| error.to_string())?;
        let length = u32::try_from(json.len()).map_err(|error| error.to_string())?;
        let mut head = Vec::with_capacity(PREFIX + json.len());
        head.push(VERSION);
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&json);
        Ok(Self {
            head,
            body: message.body().clone(),
            at,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Writes into a place of exactly [`len`](Self::len) bytes.
    pub(super) fn write(&self, place: &mut [u8]) {
        let (head, body) = place.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        body.copy_from_slice(&self.body);
    }
}

/// When the message was spooled.
pub(super) fn spooled_at(bytes: &[u8]) -> Result<SystemTime, String> {
    let (head, _) = split(bytes)?;
    Ok(UNIX_EPOCH + Duration::from_millis(head.at))
}

pub(super) fn message(bytes: &[u8]) -> Result<Message, String> {
    let (head, body) = split(bytes)?;
    let mut message = Message::new(Bytes::copy_from_slice(body))
        .with_idempotency_key(head.key)
        .with_attributes(head.attributes.into_iter().collect())
        .with_delay(head.delay)
        .with_failure(head.failure);
    if let Some(key) = head.ordering_key {
        message = message.with_ordering_key(key);
    }
    if let Some(id) = head.dedup_id {
        message = message.with_dedup_id(id);
    }
    Ok(message)
}

fn split(bytes: &[u8]) -> Result<(Head, &[u8]), String> {
    let Some((&[version, a, b, c, d], rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(format!("it has {} bytes", bytes.len()));
    };
    if version != VERSION {
        return Err(format!(
            "it has version {version}, and this program reads version {VERSION}"
        ));
    }
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let (head, body) = rest
        .split_at_checked(length)
        .ok_or("it is shorter than it says")?;
    let head = serde_json::from_slice(head).map_err(|error| error.to_string())?;
    Ok((head, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(message: &Message) -> Vec<u8> {
        let record = Record::new(message, SystemTime::now()).unwrap();
        let mut bytes = vec![0; record.len()];
        record.write(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn every_message_comes_back_as_it_was(
            body in any::<Vec<u8>>(),
            attributes in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4),
            ordering_key in any::<Option<String>>(),
            dedup_id in any::<Option<String>>(),
            delay in any::<u32>(),
        ) {
            let mut message = Message::new(body)
                .with_attributes(attributes.into_iter().collect())
                .with_delay(Duration::from_micros(delay.into()));
            if let Some(key) = ordering_key {
                message = message.with_ordering_key(key);
            }
            if let Some(id) = dedup_id {
                message = message.with_dedup_id(id);
            }
            prop_assert_eq!(super::message(&bytes(&message)).unwrap(), message);
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = message(&bytes);
            let _ = spooled_at(&bytes);
        }
    }

    #[test]
    fn a_record_that_is_cut_or_of_another_version_is_an_error() {
        let whole = bytes(&Message::new(""));
        for cut in 0..whole.len() {
            assert!(message(&whole[..cut]).is_err());
        }
        let mut other = whole;
        other[0] = 2;
        assert_eq!(
            message(&other).unwrap_err(),
            "it has version 2, and this program reads version 1"
        );
    }
}
