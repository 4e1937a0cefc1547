//! Slack: a timestamp and a signature in two headers.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{
    Key, Place, SignatureError, Signed, Signer, Tolerance, Verified, Verifier, json,
    key::{MacKeys, header, header_value},
    tolerance::Timestamp,
};
const SIGNATURE: HeaderName = HeaderName::from_static("x-slack-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-slack-request-timestamp");

/// Slack's requests: `X-Slack-Signature: v0=<hex>` over `v0:<timestamp>:<body>`.
///
/// The id is the field `event_id` of the body, which the Events API sends; commands and
/// interactions have none.
///
/// <https://docs.slack.dev/authentication/verifying-requests-from-slack>
#[derive(Clone, Debug)]
pub struct Slack {
    keys: MacKeys,
    tolerance: Tolerance,
}

impl Slack {
    /// Accepts requests signed with one of `keys`.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        Self {
            keys: MacKeys::sha256(keys),
            tolerance: Tolerance::default(),
        }
    }

    /// How far the timestamp may be from the time of receipt. 300 seconds by default.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = tolerance.into();
        self
    }
}

impl Verifier for Slack {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified, SignatureError> {
        let place = || Place::Header(SIGNATURE);
        let seconds = header(headers, &TIMESTAMP)?;
        let signature = header(headers, &SIGNATURE)?
            .strip_prefix("v0=")
            .and_then(|signature| hex::decode(signature).ok())
            .ok_or_else(|| place().malformed("is not v0= and hexadecimal digits"))?;
        let timestamp = Timestamp::parse(seconds, Place::Header(TIMESTAMP))?;
        let key = self
            .keys
            .position(&[b"v0:", seconds.as_bytes(), b":", body], &[signature])
            .ok_or_else(|| SignatureError::Mismatch(place()))?;
        self.tolerance.check(timestamp, received_at)?;
        Ok(Verified {
            event_id: json::string_field(body, "event_id"),
            key,
            signed_at: timestamp.time(),
            single_use: None,
        })
    }
}

impl Signer for Slack {
    /// The id of the event stands in the body; `id` is ignored.
    fn sign(&self, body: &[u8], _id: &str, at: SystemTime) -> towpath_core::Result<Signed> {
        let seconds = Timestamp::at(at)?.to_string();
        let signature = self.keys.sign(&[b"v0:", seconds.as_bytes(), b":", body])?;
        let signature = format!("v0={}", hex::encode(signature));
        let mut headers = HeaderMap::new();
        headers.insert(TIMESTAMP, header_value(&TIMESTAMP, &seconds)?);
        headers.insert(SIGNATURE, header_value(&SIGNATURE, &signature)?);
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

    /// The example of Slack's documentation.
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
        &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
        &command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands\
        %2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const V0: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn slack() -> Slack {
        Slack::new([Key::new("8f742231b10e8888abcd99yyyzzz85a5")])
    }

    fn at() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_531_420_618)
    }

    #[test]
    fn the_known_signature_is_accepted() {
        let headers = HeaderMap::from_iter([
            (SIGNATURE, V0.parse().unwrap()),
            (TIMESTAMP, "1531420618".parse().unwrap()),
        ]);
        let verified = slack().verify(&headers, BODY.as_bytes(), at()).unwrap();
        assert_eq!(verified.event_id, None);
        assert_eq!(verified.signed_at, Some(at()));
    }

    #[test]
    fn the_id_of_an_event_is_in_the_body() {
        let body =
            br#"{"type":"event_callback","event":{"event_id":"no"},"event_id":"Ev9UQ52YNA"}"#;
        let signed = slack().sign(body, "", at()).unwrap();
        let verified = slack().verify(&signed.headers, body, at()).unwrap();
        assert_eq!(verified.event_id.as_deref(), Some("Ev9UQ52YNA"));
    }

    #[test]
    fn another_version_is_malformed() {
        let mut headers = slack().sign(b"x", "", at()).unwrap().headers;
        for text in ["", "v1=00", "v0=xyz", &V0[3..]] {
            headers.insert(SIGNATURE, text.parse().unwrap());
            let error = slack().verify(&headers, b"x", at()).unwrap_err();
            assert_eq!(error.as_str(), "malformed", "{text}");
        }
    }
}
