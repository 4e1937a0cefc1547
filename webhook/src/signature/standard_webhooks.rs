//! Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp` and `webhook-signature` headers.
//!
//! The signed content is `id.timestamp.body`; the signature header holds one or more of
//! `v1,<base64 HMAC-SHA256>` and `v1a,<base64 ed25519>`, separated by spaces.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use http::HeaderMap;

use super::{
    Key, Result, SignatureError, TOLERANCE, Verified, Verifier, check_time, header,
    secret::matching,
};

/// Verifies Standard Webhooks, with symmetric and asymmetric keys.
#[derive(Clone, Debug)]
pub struct StandardWebhooks {
    secrets: Vec<Key>,
    public: Vec<VerifyingKey>,
    tolerance: Duration,
}

/// Why a key of Standard Webhooks cannot be read. Does not show the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key number {0} is not base64 after whsec_ or whpk_, or not of the right length")]
pub struct KeyError(usize);

impl StandardWebhooks {
    /// A verifier with keys in their written form: `whsec_<base64>` (or the base64 alone) for a
    /// shared secret, `whpk_<base64>` for an ed25519 public key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] names the first key that cannot be read, counted from 1.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let (mut secrets, mut public) = (Vec::new(), Vec::new());
        for (index, key) in keys.into_iter().enumerate() {
            let error = KeyError(index + 1);
            if let Some(text) = key.strip_prefix("whpk_") {
                let bytes = BASE64_STANDARD.decode(text).map_err(|_| error)?;
                let bytes: [u8; 32] = bytes.try_into().map_err(|_| error)?;
                public.push(VerifyingKey::from_bytes(&bytes).map_err(|_| error)?);
            } else {
                let text = key.strip_prefix("whsec_").unwrap_or(key);
                secrets.push(Key::new(BASE64_STANDARD.decode(text).map_err(|_| error)?));
            }
        }
        Ok(Self {
            secrets,
            public,
            tolerance: TOLERANCE,
        })
    }

    /// Sets how far the signed time may be from the time of receipt.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }
}

impl Verifier for StandardWebhooks {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified> {
        let id = header(headers, "webhook-id")?;
        let timestamp = header(headers, "webhook-timestamp")?;
        let signatures = header(headers, "webhook-signature")?;
        if id.is_empty() {
            return Err(SignatureError::Malformed("webhook-id"));
        }
        let seconds = timestamp
            .parse()
            .map_err(|_| SignatureError::Malformed("webhook-timestamp"))?;
        let (mut symmetric, mut asymmetric) = (Vec::new(), Vec::new());
        // Versions that are not known are left out, as the specification says.
        for signature in signatures.split(' ') {
            match signature.split_once(',') {
                Some(("v1", text)) => symmetric.extend(BASE64_STANDARD.decode(text).ok()),
                Some(("v1a", text)) => asymmetric.extend(BASE64_STANDARD.decode(text).ok()),
                _ => {}
            }
        }
        if symmetric.is_empty() && asymmetric.is_empty() {
            return Err(SignatureError::Malformed("webhook-signature"));
        }
        let parts: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        let key = matching(&self.secrets, &symmetric, &parts).or_else(|error| {
            self.matching_public(&asymmetric, &parts.concat())
                .ok_or(error)
        })?;
        check_time(seconds, received_at, self.tolerance)?;
        Ok(Verified {
            event_id: Some(id.to_owned()),
            key,
            single_use: None,
        })
    }
}

impl StandardWebhooks {
    fn matching_public(&self, signatures: &[Vec<u8>], content: &[u8]) -> Option<usize> {
        let index = self.public.iter().position(|key| {
            signatures
                .iter()
                .filter_map(|bytes| Signature::from_slice(bytes).ok())
                .any(|signature| key.verify_strict(content, &signature).is_ok())
        })?;
        Some(self.secrets.len() + index)
    }
}

/// The `webhook-signature` of a message.
pub fn sign(secret: &Key, id: &str, timestamp: i64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let mac = secret.hmac_sha256(&[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
    format!("v1,{}", BASE64_STANDARD.encode(mac))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::signature::{at, headers};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn request(timestamp: &str, signature: &str) -> HeaderMap {
        headers(&[
            ("webhook-id", ID),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ])
    }

    fn verify(headers: &HeaderMap, body: &[u8]) -> Result<Verified> {
        StandardWebhooks::new([SECRET])
            .unwrap()
            .verify(headers, body, at(1_614_265_330))
    }

    #[test]
    fn the_published_example_verifies_among_other_signatures() {
        let many = format!("v2,xyz v1,AAAA {SIGNATURE}");
        for signature in [SIGNATURE, &many] {
            let verified = verify(&request("1614265330", signature), BODY).unwrap();
            assert_eq!(verified.event_id.as_deref(), Some(ID));
        }
        let secret = Key::new(BASE64_STANDARD.decode(&SECRET[6..]).unwrap());
        assert_eq!(sign(&secret, ID, 1_614_265_330, BODY), SIGNATURE);
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        let good = request("1614265330", SIGNATURE);
        assert_eq!(verify(&good, b"{}"), Err(SignatureError::Mismatch));
        assert_eq!(
            verify(&request("1614265331", SIGNATURE), BODY),
            Err(SignatureError::Mismatch)
        );
        let malformed = Err(SignatureError::Malformed("webhook-timestamp"));
        assert_eq!(
            verify(&request("99999999999999999999", SIGNATURE), BODY),
            malformed
        );
        assert_eq!(
            verify(&request("1614265330", "v1"), BODY),
            Err(SignatureError::Malformed("webhook-signature"))
        );
        let secret = Key::new(BASE64_STANDARD.decode(&SECRET[6..]).unwrap());
        let old = sign(&secret, ID, i64::MIN, BODY);
        assert_eq!(
            verify(&request(&i64::MIN.to_string(), &old), BODY),
            Err(SignatureError::Expired)
        );
    }

    #[test]
    fn an_ed25519_signature_verifies() {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let public = format!(
            "whpk_{}",
            BASE64_STANDARD.encode(signing.verifying_key().as_bytes())
        );
        let content = [ID.as_bytes(), b".1614265330.", BODY].concat();
        let signature = format!(
            "v1a,{}",
            BASE64_STANDARD.encode(signing.sign(&content).to_bytes())
        );
        let verifier = StandardWebhooks::new([SECRET, &public]).unwrap();
        let received_at = at(1_614_265_330);
        let verified = verifier
            .verify(&request("1614265330", &signature), BODY, received_at)
            .unwrap();
        assert_eq!(verified.key, 1);
        let tampered = verifier.verify(&request("1614265330", &signature), b"{}", received_at);
        assert_eq!(tampered, Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_bad_key_is_named_by_its_number_only() {
        let error = StandardWebhooks::new([SECRET, "whsec_not base64!"]).unwrap_err();
        assert!(error.to_string().contains("number 2"), "{error}");
        assert!(!error.to_string().contains("not base64!"), "{error}");
    }
}
