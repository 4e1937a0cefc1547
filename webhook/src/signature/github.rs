//! GitHub: an HMAC of the body in a header.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{
    Key, Place, SignatureError, Signed, Signer, Verified, Verifier,
    key::{MacKeys, header, header_value, id_header},
};
const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
const DELIVERY: HeaderName = HeaderName::from_static("x-github-delivery");

/// GitHub's webhooks: `X-Hub-Signature-256: sha256=<hex>` over the body.
///
/// The id is `X-GitHub-Delivery`, where it is there. The signature covers neither the id nor a
/// time, so an old request that somebody has seen can be sent again under another id.
///
/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
#[derive(Clone, Debug)]
pub struct Github {
    keys: MacKeys,
}

impl Github {
    /// Accepts requests signed with one of `keys`.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        Self {
            keys: MacKeys::sha256(keys),
        }
    }
}

impl Verifier for Github {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        _received_at: SystemTime,
    ) -> Result<Verified, SignatureError> {
        let place = || Place::Header(SIGNATURE);
        let signature = header(headers, &SIGNATURE)?
            .strip_prefix("sha256=")
            .and_then(|signature| hex::decode(signature).ok())
            .ok_or_else(|| place().malformed("is not sha256= and hexadecimal digits"))?;
        let event_id = id_header(headers, &DELIVERY)?;
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

impl Signer for Github {
    fn sign(&self, body: &[u8], id: &str, _at: SystemTime) -> towpath_core::Result<Signed> {
        let signature = format!("sha256={}", hex::encode(self.keys.sign(&[body])?));
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE, header_value(&SIGNATURE, &signature)?);
        headers.insert(DELIVERY, header_value(&DELIVERY, id)?);
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
    fn the_known_signature_is_accepted() {
        let github = Github::new([Key::new("It's a Secret to Everybody")]);
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let mut headers = HeaderMap::from_iter([(SIGNATURE, signature.parse().unwrap())]);
        let now = SystemTime::now();
        let verified = github.verify(&headers, b"Hello, World!", now).unwrap();
        assert_eq!(verified, Verified::default());
        headers.insert(DELIVERY, "72d3162e".parse().unwrap());
        let verified = github.verify(&headers, b"Hello, World!", now).unwrap();
        assert_eq!(verified.event_id.as_deref(), Some("72d3162e"));
        let error = github.verify(&headers, b"Hello, World?", now).unwrap_err();
        assert_eq!(error, SignatureError::Mismatch(Place::Header(SIGNATURE)));
    }

    #[test]
    fn an_old_sha1_signature_is_malformed() {
        let github = Github::new([Key::new("x")]);
        for text in ["sha1=00", "757107ea", "sha256=75710", "sha256=zz", ""] {
            let headers = HeaderMap::from_iter([(SIGNATURE, text.parse().unwrap())]);
            let error = github.verify(&headers, b"", SystemTime::now()).unwrap_err();
            assert_eq!(error.as_str(), "malformed", "{text}");
        }
    }
}
