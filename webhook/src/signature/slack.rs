//! Slack: `X-Slack-Signature: v0=<hex>`, signed content `v0:timestamp:body`.
//!
//! <https://api.slack.com/authentication/verifying-requests-from-slack>

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde::Deserialize;

use super::{
    Key, Result, SignatureError, TOLERANCE, Verified, Verifier, check_time, header,
    secret::matching, stripe::top_level_string,
};

/// Verifies Slack's requests.
#[derive(Clone, Debug)]
pub struct Slack {
    keys: Vec<Key>,
    tolerance: Duration,
}

impl Slack {
    /// A verifier with these signing secrets.
    pub fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            tolerance: TOLERANCE,
        }
    }

    /// Sets how far the signed time may be from the time of receipt.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }
}

#[derive(Deserialize)]
struct Event {
    event_id: Option<String>,
}

impl Verifier for Slack {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified> {
        let timestamp = header(headers, "x-slack-request-timestamp")?;
        let seconds = timestamp
            .parse()
            .map_err(|_| SignatureError::Malformed("x-slack-request-timestamp"))?;
        let signature = header(headers, "x-slack-signature")?
            .strip_prefix("v0=")
            .and_then(|text| hex::decode(text).ok())
            .ok_or(SignatureError::Malformed("x-slack-signature"))?;
        let key = matching(
            &self.keys,
            &[signature],
            &[b"v0:", timestamp.as_bytes(), b":", body],
        )?;
        check_time(seconds, received_at, self.tolerance)?;
        let event_id = top_level_string(body, |event: Event| event.event_id);
        Ok(Verified {
            event_id,
            key,
            single_use: None,
        })
    }
}

/// The `X-Slack-Signature` of `body`.
pub fn sign(key: &Key, timestamp: i64, body: &[u8]) -> String {
    let mac = key.hmac_sha256(&[b"v0:", timestamp.to_string().as_bytes(), b":", body]);
    format!("v0={}", hex::encode(mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{at, headers};

    #[test]
    fn time_and_body_are_covered() {
        let key = Key::new("8f742231b10e8888abcd99yyyzzz85a5");
        let signature = sign(&key, 1_531_420_618, br#"{"event_id":"Ev1"}"#);
        let slack = Slack::new(vec![key]);
        let verify = |time: &str, body: &[u8], seconds| {
            let request = headers(&[
                ("x-slack-signature", &signature),
                ("x-slack-request-timestamp", time),
            ]);
            slack.verify(&request, body, at(seconds))
        };
        let verified = verify("1531420618", br#"{"event_id":"Ev1"}"#, 1_531_420_618).unwrap();
        assert_eq!(verified.event_id.as_deref(), Some("Ev1"));
        assert_eq!(
            verify("1531420619", br#"{"event_id":"Ev1"}"#, 1_531_420_618),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            verify("1531420618", b"x", 1_531_420_618),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            verify("1531420618", br#"{"event_id":"Ev1"}"#, 1_531_421_000),
            Err(SignatureError::Expired)
        );
    }
}
