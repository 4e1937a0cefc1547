//! Shopify: `X-Shopify-Hmac-SHA256: <base64 HMAC-SHA256 of the body>`.
//!
//! <https://shopify.dev/docs/apps/build/webhooks/subscribe/https>

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderMap;

use super::{Key, Result, SignatureError, Verified, Verifier, header, secret::matching};

/// Verifies Shopify's webhooks.
#[derive(Clone, Debug)]
pub struct Shopify {
    keys: Vec<Key>,
}

impl Shopify {
    /// A verifier with these client secrets.
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }
}

impl Verifier for Shopify {
    fn verify(&self, headers: &HeaderMap, body: &[u8], _: SystemTime) -> Result<Verified> {
        let name = "x-shopify-hmac-sha256";
        let signature = BASE64_STANDARD
            .decode(header(headers, name)?)
            .map_err(|_| SignatureError::Malformed(name))?;
        let key = matching(&self.keys, &[signature], &[body])?;
        let event_id = header(headers, "x-shopify-webhook-id")
            .ok()
            .map(str::to_owned);
        Ok(Verified {
            event_id,
            key,
            single_use: None,
        })
    }
}

/// The `X-Shopify-Hmac-SHA256` of `body`.
pub fn sign(key: &Key, body: &[u8]) -> String {
    BASE64_STANDARD.encode(key.hmac_sha256(&[body]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{at, headers};

    #[test]
    fn an_old_key_is_still_live_and_a_tampered_body_is_refused() {
        let (old, new) = (Key::new("old"), Key::new("new"));
        let signature = sign(&old, b"{}");
        let request = headers(&[
            ("x-shopify-hmac-sha256", &signature),
            ("x-shopify-webhook-id", "w-1"),
        ]);
        let shopify = Shopify::new(vec![new.clone(), old]);
        let verified = shopify.verify(&request, b"{}", at(0)).unwrap();
        assert_eq!(
            (verified.key, verified.event_id.as_deref()),
            (1, Some("w-1"))
        );
        assert_eq!(
            shopify.verify(&request, b"[]", at(0)),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            Shopify::new(vec![new]).verify(&request, b"{}", at(0)),
            Err(SignatureError::Mismatch)
        );
    }
}
