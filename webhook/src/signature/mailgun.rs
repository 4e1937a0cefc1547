//! Mailgun: the signature stands in the body, as JSON or as form fields.
//!
//! It is hex(HMAC-SHA256(key, timestamp + token)) and does not cover the body, so the token must be
//! used once only: see [`Verified::single_use`].
//!
//! <https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks>

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde_json::{Value, json};

use super::{Key, Result, SignatureError, Verified, Verifier, check_time, secret::matching};

/// How far the signed time may be from the time of receipt, unless the verifier says otherwise:
/// longer than Mailgun tries to deliver (8 h), because a later try may carry the signature of the
/// first. Within this time it is the single use of the token that keeps replays out.
pub const MAILGUN_TOLERANCE: Duration = Duration::from_secs(9 * 3_600);

/// Verifies Mailgun's webhooks in their JSON form.
#[derive(Clone, Debug)]
pub struct Mailgun {
    keys: Vec<Key>,
    tolerance: Duration,
}

impl Mailgun {
    /// A verifier with these webhook signing keys.
    pub fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            tolerance: MAILGUN_TOLERANCE,
        }
    }

    /// Sets how far the signed time may be from the time of receipt.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Checks the three fields of a signature.
    ///
    /// # Errors
    ///
    /// As [`Verifier::verify`].
    pub fn verify_fields(
        &self,
        timestamp: &str,
        token: &str,
        signature: &str,
        received_at: SystemTime,
    ) -> Result<usize> {
        let seconds = timestamp
            .parse()
            .map_err(|_| SignatureError::Malformed("signature.timestamp"))?;
        if token.is_empty() || token.len() > 100 {
            return Err(SignatureError::Malformed("signature.token"));
        }
        let signature =
            hex::decode(signature).map_err(|_| SignatureError::Malformed("signature.signature"))?;
        let key = matching(
            &self.keys,
            &[signature],
            &[timestamp.as_bytes(), token.as_bytes()],
        )?;
        check_time(seconds, received_at, self.tolerance)?;
        Ok(key)
    }
}

impl Verifier for Mailgun {
    fn verify(&self, _: &HeaderMap, body: &[u8], received_at: SystemTime) -> Result<Verified> {
        let body: Value =
            serde_json::from_slice(body).map_err(|_| SignatureError::Malformed("the body"))?;
        let block = body
            .get("signature")
            .ok_or(SignatureError::Missing("signature"))?;
        // Mailgun sends the time as a string or as a number.
        let timestamp = match block.get("timestamp") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(_) => return Err(SignatureError::Malformed("signature.timestamp")),
            None => return Err(SignatureError::Missing("signature.timestamp")),
        };
        let text = |name, missing| match block.get(name) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(SignatureError::Malformed(missing)),
            None => Err(SignatureError::Missing(missing)),
        };
        let token = text("token", "signature.token")?;
        let signature = text("signature", "signature.signature")?;
        let key = self.verify_fields(&timestamp, token, signature, received_at)?;
        let id = body.pointer("/event-data/id").and_then(Value::as_str);
        Ok(Verified {
            event_id: id.filter(|id| !id.is_empty()).map(str::to_owned),
            key,
            single_use: Some(token.to_owned()),
        })
    }
}

/// The hex signature of `timestamp` and `token`.
pub fn sign(key: &Key, timestamp: &str, token: &str) -> String {
    hex::encode(key.hmac_sha256(&[timestamp.as_bytes(), token.as_bytes()]))
}

/// A signed webhook around `event`, as Mailgun posts it. `timestamp` is a string or an integer.
pub fn signed_body(key: &Key, timestamp: &Value, token: &str, event: &Value) -> Value {
    let text = timestamp
        .as_str()
        .map_or_else(|| timestamp.to_string(), str::to_owned);
    json!({
        "signature": { "timestamp": timestamp, "token": token, "signature": sign(key, &text, token) },
        "event-data": event,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::at;

    const KEY: &str = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0";
    const TOKEN: &str = "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0";

    fn verify(body: &Value, seconds: u64) -> Result<Verified> {
        let verifier = Mailgun::new(vec![Key::new("old"), Key::new(KEY)]);
        verifier.verify(&HeaderMap::new(), body.to_string().as_bytes(), at(seconds))
    }

    #[test]
    fn the_published_example_verifies_with_both_forms_of_the_time() {
        for timestamp in [json!("1529006854"), json!(1_529_006_854)] {
            let body = json!({
                "signature": {
                    "timestamp": timestamp,
                    "token": TOKEN,
                    "signature": "b63c0701c4f4b614f272106a1b367c5c3369bcdca664ae73ebd52787e45eef07",
                },
                "event-data": { "id": "e1", "event": "opened" },
            });
            let verified = verify(&body, 1_529_006_900).unwrap();
            assert_eq!(verified.event_id.as_deref(), Some("e1"));
            assert_eq!(verified.single_use.as_deref(), Some(TOKEN));
            assert_eq!(verified.key, 1);
            assert_eq!(
                verify(&body, 1_529_006_854 + 9 * 3_600 + 1),
                Err(SignatureError::Expired)
            );
        }
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        let good = signed_body(
            &Key::new(KEY),
            &json!("1529006854"),
            TOKEN,
            &json!({ "id": "e1" }),
        );
        assert!(verify(&good, 1_529_006_854).is_ok());
        let table = [
            (
                "/signature/timestamp",
                json!("1529006855"),
                SignatureError::Mismatch,
            ),
            ("/signature/token", json!("b8ce"), SignatureError::Mismatch),
            (
                "/signature/signature",
                json!("00"),
                SignatureError::Mismatch,
            ),
            (
                "/signature/signature",
                json!("xyz"),
                SignatureError::Malformed("signature.signature"),
            ),
            (
                "/signature/timestamp",
                json!("soon"),
                SignatureError::Malformed("signature.timestamp"),
            ),
            (
                "/signature/timestamp",
                json!(1e300),
                SignatureError::Malformed("signature.timestamp"),
            ),
            (
                "/signature/timestamp",
                json!(null),
                SignatureError::Malformed("signature.timestamp"),
            ),
            (
                "/signature",
                json!(3),
                SignatureError::Missing("signature.timestamp"),
            ),
        ];
        for (place, value, wanted) in table {
            let mut bad = good.clone();
            *bad.pointer_mut(place).unwrap() = value;
            assert_eq!(verify(&bad, 1_529_006_854), Err(wanted), "{place}");
        }
    }
}
