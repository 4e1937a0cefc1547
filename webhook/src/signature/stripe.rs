//! Stripe: `Stripe-Signature: t=<unix>,v1=<hex>[,v1=<hex>]`, signed content `t.body`.
//!
//! <https://docs.stripe.com/webhooks#verify-manually>

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde::Deserialize;

use super::{
    Key, Result, SignatureError, TOLERANCE, Verified, Verifier, check_time, header,
    secret::matching,
};

/// Verifies Stripe's webhooks.
#[derive(Clone, Debug)]
pub struct Stripe {
    keys: Vec<Key>,
    tolerance: Duration,
}

impl Stripe {
    /// A verifier with these endpoint secrets.
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

impl Verifier for Stripe {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified> {
        let name = "stripe-signature";
        let (mut timestamp, mut signatures) = (None, Vec::new());
        for part in header(headers, name)?.split(',') {
            match part.trim().split_once('=') {
                Some(("t", text)) => timestamp = timestamp.or(Some(text)),
                Some(("v1", text)) => signatures.extend(hex::decode(text).ok()),
                // v0 and what comes later are not to be trusted.
                _ => {}
            }
        }
        let timestamp = timestamp.ok_or(SignatureError::Malformed(name))?;
        let seconds = timestamp
            .parse()
            .map_err(|_| SignatureError::Malformed(name))?;
        let key = matching(&self.keys, &signatures, &[timestamp.as_bytes(), b".", body])?;
        check_time(seconds, received_at, self.tolerance)?;
        Ok(Verified {
            event_id: top_level_string(body, |event: Event| event.id),
            key,
            single_use: None,
        })
    }
}

#[derive(Deserialize)]
struct Event {
    id: Option<String>,
}

/// A string of the body's top level; `None` where the body is not JSON or has none.
pub(super) fn top_level_string<T: serde::de::DeserializeOwned>(
    body: &[u8],
    field: impl FnOnce(T) -> Option<String>,
) -> Option<String> {
    serde_json::from_slice(body)
        .ok()
        .and_then(field)
        .filter(|id| !id.is_empty())
}

/// The `Stripe-Signature` of `body`.
pub fn sign(key: &Key, timestamp: i64, body: &[u8]) -> String {
    let mac = key.hmac_sha256(&[timestamp.to_string().as_bytes(), b".", body]);
    format!("t={timestamp},v1={}", hex::encode(mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{at, headers};

    const BODY: &[u8] = br#"{"id":"evt_1"}"#;
    const SIGNATURE: &str = "e135cdbed3dda004bf8a2fb350f2541d299393c770e0b9e6e319dc595e9072aa";

    fn verify(value: &str, body: &[u8], seconds: u64) -> Result<Verified> {
        let stripe = Stripe::new(vec![Key::new("whsec_test_secret")]);
        stripe.verify(&headers(&[("stripe-signature", value)]), body, at(seconds))
    }

    #[test]
    fn the_known_vector_verifies_also_as_the_second_signature() {
        for value in [
            format!("t=1614265330,v1={SIGNATURE}"),
            format!("t=1614265330,v1=00,v1={SIGNATURE},v0=11"),
        ] {
            let verified = verify(&value, BODY, 1_614_265_400).unwrap();
            assert_eq!(verified.event_id.as_deref(), Some("evt_1"));
        }
        assert_eq!(
            sign(&Key::new("whsec_test_secret"), 1_614_265_330, BODY),
            format!("t=1614265330,v1={SIGNATURE}")
        );
    }

    #[test]
    fn only_v1_counts_and_time_and_body_are_covered() {
        let good = format!("t=1614265330,v1={SIGNATURE}");
        let only_v0 = format!("t=1614265330,v0={SIGNATURE}");
        assert_eq!(
            verify(&only_v0, BODY, 1_614_265_330),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            verify(&good, b"{}", 1_614_265_330),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            verify(&good, BODY, 1_614_265_631),
            Err(SignatureError::Expired)
        );
        let moved = format!("t=1614265331,v1={SIGNATURE}");
        assert_eq!(
            verify(&moved, BODY, 1_614_265_331),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            verify("v1=00", BODY, 0),
            Err(SignatureError::Malformed("stripe-signature"))
        );
    }
}
