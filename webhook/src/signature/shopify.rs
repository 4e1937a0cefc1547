//! Shopify: an HMAC of the body in a header.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{
    Key, Place, SignatureError, Signed, Signer, Verified, Verifier,
    key::{MacKeys, header, header_value, id_header},
};
const SIGNATURE: HeaderName = HeaderName::from_static("x-shopify-hmac-sha256");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("x-shopify-webhook-id");

/// Shopify's webhooks: `X-Shopify-Hmac-SHA256: <base64>` over the body.
///
/// The id is `X-Shopify-Webhook-Id`, where it is there. The signature covers neither the id nor a
/// time, so an old request that somebody has seen can be sent again under another id.
///
/// <https://shopify.dev/docs/apps/build/webhooks/subscribe/https>
#[derive(Clone, Debug)]
pub struct Shopify {
    keys: MacKeys,
}

impl Shopify {
    /// Accepts requests signed with one of `keys`.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        Self {
            keys: MacKeys::sha256(keys),
        }
    }
}

impl Verifier for Shopify {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        _received_at: SystemTime,
    ) -> Result<Verified, SignatureError> {
        let place = || Place::Header(SIGNATURE);
        let signature = STANDARD
            .decode(header(headers, &SIGNATURE)?)
            .map_err(|_| place().malformed("is not base64"))?;
        let event_id = id_header(headers, &WEBHOOK_ID)?;
        let key = self
            .keys
            .position(&[body], &[signature])
            .ok_or_else(|| SignatureError::Mismatch(place()))?;
        Ok(Verified {
            event_id,
            key,
            ..Verified::default()
        })
    }
}

impl Signer for Shopify {
    fn sign(&self, body: &[u8], id: &str, _at: SystemTime) -> towpath_core::Result<Signed> {
        let signature = STANDARD.encode(self.keys.sign(&[body])?);
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE, header_value(&SIGNATURE, &signature)?);
        headers.insert(WEBHOOK_ID, header_value(&WEBHOOK_ID, id)?);
        Ok(Signed {
            headers,
            body: Bytes::copy_from_slice(body),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_made_by_openssl_is_accepted() {
        // printf '%s' '{"id":450789469}' | openssl dgst -sha256 -hmac hush -binary | base64
        let signature = "QPF8T1ti8Gpf6xXRoKZDI2G/2Fp8v4tKnau8MqDdx3o=";
        let shopify = Shopify::new([Key::new("hush")]);
        let headers = HeaderMap::from_iter([
            (SIGNATURE, signature.parse().unwrap()),
            (WEBHOOK_ID, "b54557e4".parse().unwrap()),
        ]);
        let verified = shopify.verify(&headers, br#"{"id":450789469}"#, SystemTime::now());
        assert_eq!(verified.unwrap().event_id.as_deref(), Some("b54557e4"));
    }
}
