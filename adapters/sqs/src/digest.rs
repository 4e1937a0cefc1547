//! The MD5s by which SQS shows what it received and what it sent.
//!
//! How the attributes are put together:
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>

use std::collections::HashMap;

use aws_sdk_sqs::types::MessageAttributeValue;
use md5::{Digest as _, Md5};

/// An MD5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; 16]);

impl Digest {
    /// Whether `hex` is this one in hexadecimal, as SQS writes it.
    pub(crate) fn is(self, hex: &str) -> bool {
        // Written out rather than read: digits and letters come at random, and each would be a
        // mispredicted branch.
        let mut expected = [0; 32];
        let is_written = hex::encode_to_slice(self.0, &mut expected).is_ok();
        is_written && expected.eq_ignore_ascii_case(hex.as_bytes())
    }

    #[cfg(test)]
    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl From<Md5> for Digest {
    fn from(digest: Md5) -> Self {
        Self(digest.finalize().into())
    }
}

/// The MD5 of a body.
pub(crate) fn of_body(body: &str) -> Digest {
    Md5::new().chain_update(body).into()
}

/// The MD5 of message attributes.
pub(crate) fn of_attributes(attributes: &HashMap<String, MessageAttributeValue>) -> Digest {
    let mut names: Vec<&String> = attributes.keys().collect();
    names.sort_unstable();
    let mut digest = Md5::new();
    for name in names {
        let Some(value) = attributes.get(name) else {
            continue;
        };
        update(&mut digest, name.as_bytes());
        update(&mut digest, value.data_type().as_bytes());
        match value.binary_value() {
            Some(blob) => {
                digest.update([2]);
                update(&mut digest, blob.as_ref());
            }
            None => {
                digest.update([1]);
                update(
                    &mut digest,
                    value.string_value().unwrap_or_default().as_bytes(),
                );
            }
        }
    }
    digest.into()
}

/// A part goes in with its length in front, as four bytes, the highest first.
fn update(digest: &mut Md5, part: &[u8]) {
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    digest.update(length.to_be_bytes());
    digest.update(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sqs::primitives::Blob;

    fn value(kind: &str, text: Option<&str>, bytes: Option<&[u8]>) -> MessageAttributeValue {
        MessageAttributeValue::builder()
            .data_type(kind)
            .set_string_value(text.map(str::to_owned))
            .set_binary_value(bytes.map(Blob::new))
            .build()
            .unwrap()
    }

    #[test]
    fn a_body_has_the_usual_md5() {
        for (body, md5) in [
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("é", "66ddcd97cfdeabb2f6fb8a999b4bc76f"),
        ] {
            assert!(of_body(body).is(md5));
            assert!(!of_body("other").is(md5));
            assert!(!of_body(body).is(&md5[2..]) && !of_body(body).is("é"));
        }
    }

    #[test]
    fn attributes_are_digested_by_name_with_lengths_and_types() {
        let attributes = HashMap::from([
            ("b".to_owned(), value("Binary", None, Some(&[1, 2]))),
            ("a".to_owned(), value("Number.int", Some("7"), None)),
        ]);
        let mut plain = Vec::new();
        for part in [&b"a"[..], b"Number.int"] {
            plain.extend((part.len() as u32).to_be_bytes());
            plain.extend(part);
        }
        plain.push(1);
        plain.extend([0, 0, 0, 1, b'7']);
        plain.extend([0, 0, 0, 1, b'b', 0, 0, 0, 6]);
        plain.extend(b"Binary");
        plain.push(2);
        plain.extend([0, 0, 0, 2, 1, 2]);
        assert_eq!(
            of_attributes(&attributes),
            Md5::new().chain_update(plain).into()
        );
    }
}
