//! Any other HMAC in a header.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use towpath_core::{Error, ErrorKind, Result};

use super::{
    Key, Place, SignatureError, Signed, Signer, Tolerance, Verified, Verifier,
    key::{MacKeys, header, header_value, id_header, invalid},
    tolerance::Timestamp,
};
/// The hash function of an HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Hash {
    /// SHA-1: as part of an HMAC still unbroken, but only for senders that offer nothing else.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Encoding {
    /// Hexadecimal digits, small or capital.
    #[default]
    Hex,
    /// Base64 of the standard alphabet, padded.
    Base64,
}

/// How a sender signs: for providers that are not listed here, and for your own services.
///
/// ```
/// use towpath_webhook::signature::hmac::TemplateConfig;
///
/// let config: TemplateConfig = toml::from_str(r#"
///     header = "x-signature"
///     prefix = "v1="
///     content = "{timestamp}.{body}"
///     timestamp_header = "x-timestamp"
///     id_header = "x-event-id"
/// "#).unwrap();
/// assert_eq!(config, TemplateConfig {
///     prefix: "v1=".to_owned(),
///     content: "{timestamp}.{body}".to_owned(),
///     timestamp_header: Some("x-timestamp".to_owned()),
///     id_header: Some("x-event-id".to_owned()),
///     ..TemplateConfig::new("x-signature")
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// The header that the signature stands in.
    pub header: String,
    /// The hash function. SHA-256 by default.
    #[serde(default)]
    pub hash: Hash,
    /// What stands before the signature, for instance `sha256=`. Nothing by default.
    #[serde(default)]
    pub prefix: String,
    /// How the signature is written. Hexadecimal by default.
    #[serde(default)]
    pub encoding: Encoding,
    /// What is signed: text with `{body}`, `{timestamp}` (the value of `timestamp_header`) and
    /// `{header:NAME}`. `{body}` by default, and it must be there.
    #[serde(default = "body_only")]
    pub content: String,
    /// The header with the time, in seconds since 1970. Needed for `{timestamp}`, and useless
    /// without it: a time that is not signed says nothing.
    #[serde(default)]
    pub timestamp_header: Option<String>,
    /// The header that names the event. It counts as genuine only when it is part of `content`.
    #[serde(default)]
    pub id_header: Option<String>,
}

fn body_only() -> String {
    "{body}".to_owned()
}

impl TemplateConfig {
    /// HMAC-SHA256 of the body, in hexadecimal digits, in `header`.
    pub fn new(header: impl Into<String>) -> Self {
        Self {
            header: header.into(),
            hash: Hash::default(),
            prefix: String::new(),
            encoding: Encoding::default(),
            content: body_only(),
            timestamp_header: None,
            id_header: None,
        }
    }
}

/// An HMAC in a header, as an [`TemplateConfig`] describes it.
#[derive(Clone, Debug)]
pub struct Template {
    keys: MacKeys,
    header: HeaderName,
    prefix: String,
    encoding: Encoding,
    content: Vec<Part>,
    timestamp_header: Option<HeaderName>,
    id_header: Option<HeaderName>,
    tolerance: Tolerance,
}

/// A part of the signed content.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Body,
    Header(HeaderName),
}

impl Template {
    /// Accepts requests signed with one of `keys` in the way that `config` describes.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` when a name is not a header's, or
    /// `content` is not as described at [`TemplateConfig::content`].
    pub fn new(config: &TemplateConfig, keys: impl IntoIterator<Item = Key>) -> Result<Self> {
        let timestamp_header = config.timestamp_header.as_deref().map(name).transpose()?;
        let content = parse(&config.content, timestamp_header.as_ref())?;
        if !content.contains(&Part::Body) {
            return Err(invalid("the signed content must contain {body}"));
        }
        if let Some(header) = &timestamp_header
            && !content.contains(&Part::Header(header.clone()))
        {
            return Err(invalid(format!(
                "timestamp_header is {header}, but the signed content has no {{timestamp}}; a time \
                 that is not signed says nothing"
            )));
        }
        Ok(Self {
            keys: MacKeys::new(config.hash, keys),
            header: name(&config.header)?,
            prefix: config.prefix.clone(),
            encoding: config.encoding,
            content,
            timestamp_header,
            id_header: config.id_header.as_deref().map(name).transpose()?,
            tolerance: Tolerance::default(),
        })
    }

    /// How far the timestamp may be from the time of receipt. 300 seconds by default.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = tolerance.into();
        self
    }

    fn content<'a>(
        &'a self,
        headers: &'a HeaderMap,
        body: &'a [u8],
    ) -> std::result::Result<Vec<&'a [u8]>, SignatureError> {
        self.content
            .iter()
            .map(|part| match part {
                Part::Text(text) => Ok(text.as_bytes()),
                Part::Body => Ok(body),
                Part::Header(name) => header(headers, name).map(str::as_bytes),
            })
            .collect()
    }
}

fn name(text: &str) -> Result<HeaderName> {
    text.parse()
        .map_err(|_| invalid(format!("{text:?} is not the name of a header")))
}

fn parse(content: &str, timestamp: Option<&HeaderName>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = content;
    while let Some((text, after)) = rest.split_once('{') {
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        let (placeholder, after) = after
            .split_once('}')
            .ok_or_else(|| invalid(format!("the signed content {content:?} has an open {{")))?;
        parts.push(match placeholder.split_once(':') {
            None if placeholder == "body" => Part::Body,
            None if placeholder == "timestamp" => {
                let header = timestamp.ok_or_else(|| {
                    invalid("the signed content has {timestamp}: set timestamp_header too")
                })?;
                Part::Header(header.clone())
            }
            Some(("header", header)) => Part::Header(name(header)?),
            _ => {
                return Err(invalid(format!(
                    "the signed content has an unknown placeholder {{{placeholder}}}; there are \
                     {{body}}, {{timestamp}} and {{header:NAME}}"
                )));
            }
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

impl Verifier for Template {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> std::result::Result<Verified, SignatureError> {
        let place = || Place::Header(self.header.clone());
        let text = header(headers, &self.header)?
            .strip_prefix(&self.prefix)
            .ok_or_else(|| place().malformed("does not begin with the configured prefix"))?;
        let signature = match self.encoding {
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => STANDARD.decode(text).ok(),
        };
        let signature =
            signature.ok_or_else(|| place().malformed("is not in the configured encoding"))?;
        let timestamp = match &self.timestamp_header {
            None => None,
            Some(name) => {
                let text = header(headers, name)?;
                Some(Timestamp::parse(text, Place::Header(name.clone()))?)
            }
        };
        let event_id = match &self.id_header {
            None => None,
            Some(name) => id_header(headers, name)?,
        };
        let key = self
            .keys
            .position(&self.content(headers, body)?, &[signature])
            .ok_or_else(|| SignatureError::Mismatch(place()))?;
        if let Some(timestamp) = timestamp {
            self.tolerance.check(timestamp, received_at)?;
        }
        Ok(Verified {
            event_id,
            key,
            signed_at: timestamp.and_then(Timestamp::time),
            single_use: None,
        })
    }
}

impl Signer for Template {
    /// `Unsupported` when another header than those of time and id is signed.
    fn sign(&self, body: &[u8], id: &str, at: SystemTime) -> Result<Signed> {
        let mut headers = HeaderMap::new();
        if let Some(name) = &self.id_header {
            headers.insert(name, header_value(name, id)?);
        }
        if let Some(name) = &self.timestamp_header {
            let seconds = Timestamp::at(at)?.to_string();
            headers.insert(name, header_value(name, &seconds)?);
        }
        let content = self.content(&headers, body).map_err(|error| {
            let message = format!("{error}, and what it should hold is not known here");
            Error::new(ErrorKind::Unsupported, message).with_source(error)
        })?;
        let tag = self.keys.sign(&content)?;
        let text = match self.encoding {
            Encoding::Hex => hex::encode(tag),
            Encoding::Base64 => STANDARD.encode(tag),
        };
        let text = format!("{}{text}", self.prefix);
        headers.insert(&self.header, header_value(&self.header, &text)?);
        Ok(Signed {
            headers,
            body: Bytes::copy_from_slice(body),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn hmac(config: &str) -> Result<Template> {
        let config: TemplateConfig = toml::from_str(config).unwrap();
        Template::new(&config, [Key::new("s3cret")])
    }

    fn at() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_614_265_330)
    }

    /// The signatures were made by openssl: `printf '%s' CONTENT | openssl dgst -HASH -hmac s3cret`.
    #[test]
    fn signatures_made_by_openssl_are_accepted_in_every_hash_and_encoding() {
        let cases = [
            (
                "header = 'x-sig'\nhash = 'sha1'\nprefix = 'sha1='",
                "sha1=2f0ee5192ed120c9fc4d16555636ddb35811f47e",
            ),
            (
                "header = 'X-Sig'\nhash = 'sha512'\ncontent = '{timestamp}.{body}'\n\
                 timestamp_header = 'X-Time'",
                "a6b89b2c2b0da49888f29997729a372b0c6fecacac7788d087cfcf868732c9ea285b8eb183a1c9392\
                 8188de5c374b9dfed6f9628db47f9c277cba69348c2b8e7",
            ),
            (
                "header = 'x-sig'\nencoding = 'base64'\nid_header = 'x-id'\n\
                 timestamp_header = 'x-time'\ncontent = '{header:X-Id}|{timestamp}|{body}'",
                "gWhQMZSncUxnQctUg3dVr5UD0z/JheDsExNDxn7DJp0=",
            ),
        ];
        for (config, signature) in cases {
            let verifier = hmac(config).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("x-sig", signature.parse().unwrap());
            headers.insert("x-time", "1614265330".parse().unwrap());
            headers.insert("x-id", "evt_7".parse().unwrap());
            let verified = verifier.verify(&headers, br#"{"id":1}"#, at()).unwrap();
            assert_eq!(verified.event_id.is_some(), config.contains("id_header"));
            assert_eq!(verified.signed_at.is_some(), config.contains("timestamp"));
            let signed = verifier.sign(br#"{"id":1}"#, "evt_7", at()).unwrap();
            assert_eq!(signed.headers["x-sig"], signature);
        }
    }

    #[test]
    fn a_description_that_cannot_be_right_is_refused() {
        for (config, why) in [
            ("header = 'x sig'", "\"x sig\" is not the name of a header"),
            ("header = 'x'\ncontent = 'static'", "must contain {body}"),
            (
                "header = 'x'\ncontent = '{timestamp}{body}'",
                "set timestamp_header too",
            ),
            (
                "header = 'x'\ntimestamp_header = 't'",
                "not signed says nothing",
            ),
            ("header = 'x'\ncontent = '{body}{'", "open {"),
            (
                "header = 'x'\ncontent = '{url}{body}'",
                "unknown placeholder {url}",
            ),
            (
                "header = 'x'\ncontent = '{header:}{body}'",
                "is not the name of a header",
            ),
        ] {
            let error = hmac(config).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{config}");
            assert!(error.message().contains(why), "{config}: {error}");
        }
    }

    #[test]
    fn a_signed_header_must_be_there_and_unchanged() {
        let verifier = hmac("header = 'x-sig'\ncontent = '{header:x-topic}:{body}'").unwrap();
        let error = verifier.sign(b"x", "", at()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let tag = verifier.keys.sign(&[b"orders", b":", b"x"]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-sig", hex::encode_upper(tag).parse().unwrap());
        let missing = SignatureError::Missing(Place::Header(name("x-topic").unwrap()));
        assert_eq!(verifier.verify(&headers, b"x", at()), Err(missing));
        headers.insert("x-topic", "orders".parse().unwrap());
        assert!(verifier.verify(&headers, b"x", at()).is_ok());
        headers.insert("x-topic", "refunds".parse().unwrap());
        assert!(verifier.verify(&headers, b"x", at()).is_err());
    }
}
