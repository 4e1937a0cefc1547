//! An HMAC over what a template says, for providers without a verifier of their own.

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderName};
use sha2::{Sha256, Sha512};

use super::{Key, Result, SignatureError, TOLERANCE, Verified, Verifier, check_time, secret::mac};

/// The hash function of the HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// HMAC-SHA256
    Sha256,
    /// HMAC-SHA512
    Sha512,
}

/// How the signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// Verifies an HMAC in a header over a template of `{body}` and `{header:NAME}`.
#[derive(Clone, Debug)]
pub struct Template {
    hash: Hash,
    header: HeaderName,
    prefix: String,
    encoding: Encoding,
    parts: Vec<Part>,
    timestamp: Option<HeaderName>,
    tolerance: Duration,
    event_id: Option<HeaderName>,
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Body,
    Header(HeaderName),
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template {template:?} {why}; it is made of text, {{body}} and {{header:NAME}}")]
pub struct TemplateError {
    template: String,
    why: &'static str,
}

impl Template {
    /// A verifier of a hex signature in `header` over `content`, for instance
    /// `"{header:x-timestamp}.{body}"`.
    ///
    /// # Errors
    ///
    /// When a header's name is not legal, or the template has an unknown part or leaves out the
    /// body.
    pub fn new(
        hash: Hash,
        header: &str,
        content: &str,
        keys: Vec<Key>,
    ) -> Result<Self, TemplateError> {
        let error = |why| TemplateError {
            template: content.to_owned(),
            why,
        };
        let mut parts = Vec::new();
        let mut rest = content;
        while let Some((text, after)) = rest.split_once('{') {
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| error("has a brace without its pair"))?;
            parts.push(match name.split_once(':') {
                None if name == "body" => Part::Body,
                Some(("header", name)) => {
                    Part::Header(name.parse().map_err(|_| error("names an illegal header"))?)
                }
                _ => return Err(error("has an unknown part")),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if !parts.iter().any(|part| matches!(part, Part::Body)) {
            return Err(error("does not cover the body"));
        }
        Ok(Self {
            hash,
            header: header
                .parse()
                .map_err(|_| error("is for a header with an illegal name"))?,
            prefix: String::new(),
            encoding: Encoding::Hex,
            parts,
            timestamp: None,
            tolerance: TOLERANCE,
            event_id: None,
            keys,
        })
    }

    /// Sets what stands before the signature in its header, for instance `sha256=`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how the signature is written.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Checks the time in this header, in seconds since 1970. The template should cover it.
    #[must_use]
    pub fn with_timestamp(mut self, header: HeaderName, tolerance: Duration) -> Self {
        self.timestamp = Some(header);
        self.tolerance = tolerance;
        self
    }

    /// Takes the provider's event id from this header.
    #[must_use]
    pub fn with_event_id(mut self, header: HeaderName) -> Self {
        self.event_id = Some(header);
        self
    }
}

impl Verifier for Template {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified> {
        let text = one(headers, &self.header, "the signature header")?;
        let malformed = SignatureError::Malformed("the signature header");
        let text = text
            .strip_prefix(self.prefix.as_bytes())
            .ok_or_else(|| malformed.clone())?;
        let signature = match self.encoding {
            Encoding::Hex => hex::decode(text).map_err(|_| malformed)?,
            Encoding::Base64 => BASE64_STANDARD.decode(text).map_err(|_| malformed)?,
        };
        let mut parts: Vec<&[u8]> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            parts.push(match part {
                Part::Text(text) => text.as_bytes(),
                Part::Body => body,
                Part::Header(name) => one(headers, name, "a signed header")?,
            });
        }
        let mut found = None;
        for (index, key) in self.keys.iter().enumerate() {
            let is_right = match self.hash {
                Hash::Sha256 => mac::<Hmac<Sha256>>(key.bytes(), &parts)
                    .verify_slice(&signature)
                    .is_ok(),
                Hash::Sha512 => mac::<Hmac<Sha512>>(key.bytes(), &parts)
                    .verify_slice(&signature)
                    .is_ok(),
            };
            if is_right {
                found = found.or(Some(index));
            }
        }
        let key = found.ok_or(SignatureError::Mismatch)?;
        if let Some(name) = &self.timestamp {
            let malformed = SignatureError::Malformed("the timestamp header");
            let text = one(headers, name, "the timestamp header")?;
            let text = std::str::from_utf8(text).map_err(|_| malformed.clone())?;
            check_time(
                text.parse().map_err(|_| malformed)?,
                received_at,
                self.tolerance,
            )?;
        }
        let event_id = self
            .event_id
            .as_ref()
            .and_then(|name| headers.get(name)?.to_str().ok());
        Ok(Verified {
            event_id: event_id.map(str::to_owned),
            key,
            single_use: None,
        })
    }
}

/// The one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName, what: &'static str) -> Result<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(SignatureError::Missing(what))?;
    if values.next().is_some() {
        return Err(SignatureError::Malformed(what));
    }
    Ok(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{at, headers, stripe};

    #[test]
    fn a_template_covers_headers_and_body() {
        let key = Key::new("k");
        let signature = stripe::sign(&key, 1_000, b"body").replace("t=1000,v1=", "sig=");
        let template = Template::new(
            Hash::Sha256,
            "x-sig",
            "{header:x-time}.{body}",
            vec![Key::new("new"), key],
        )
        .unwrap()
        .with_prefix("sig=")
        .with_timestamp(HeaderName::from_static("x-time"), TOLERANCE)
        .with_event_id(HeaderName::from_static("x-id"));
        let verify = |time: &str, body: &[u8], seconds| {
            let request = headers(&[("x-sig", &signature), ("x-time", time), ("x-id", "e1")]);
            template.verify(&request, body, at(seconds))
        };
        let verified = verify("1000", b"body", 1_000).unwrap();
        assert_eq!(
            (verified.key, verified.event_id.as_deref()),
            (1, Some("e1"))
        );
        assert_eq!(
            verify("1001", b"body", 1_000),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            verify("1000", b"bodY", 1_000),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(verify("1000", b"body", 2_000), Err(SignatureError::Expired));
        let without = headers(&[("x-sig", &signature)]);
        let missing = Err(SignatureError::Missing("a signed header"));
        assert_eq!(template.verify(&without, b"body", at(1_000)), missing);
    }

    #[test]
    fn a_template_that_cannot_work_is_refused() {
        for content in ["{body", "{nothing}", "fixed", "{header:bad name}{body}"] {
            let error = Template::new(Hash::Sha512, "x-sig", content, vec![]).unwrap_err();
            assert!(error.to_string().contains("{header:NAME}"), "{error}");
        }
    }
}
