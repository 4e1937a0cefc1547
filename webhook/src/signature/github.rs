//! GitHub: `X-Hub-Signature-256: sha256=<hex HMAC-SHA256 of the body>`.
//!
//! <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>

use std::time::SystemTime;

use http::HeaderMap;

use super::{Key, Result, SignatureError, Verified, Verifier, header, secret::matching};

/// Verifies GitHub's webhooks.
#[derive(Clone, Debug)]
pub struct Github {
    keys: Vec<Key>,
}

impl Github {
    /// A verifier with these webhook secrets.
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }
}

impl Verifier for Github {
    fn verify(&self, headers: &HeaderMap, body: &[u8], _: SystemTime) -> Result<Verified> {
        let name = "x-hub-signature-256";
        let text = header(headers, name)?;
        let signature = text
            .strip_prefix("sha256=")
            .and_then(|text| hex::decode(text).ok())
            .ok_or(SignatureError::Malformed(name))?;
        let key = matching(&self.keys, &[signature], &[body])?;
        let event_id = header(headers, "x-github-delivery").ok().map(str::to_owned);
        Ok(Verified {
            event_id,
            key,
            single_use: None,
        })
    }
}

/// The `X-Hub-Signature-256` of `body`.
pub fn sign(key: &Key, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(key.hmac_sha256(&[body])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{at, headers};

    #[test]
    fn the_published_example_verifies_and_nothing_else() {
        let key = Key::new("It's a Secret to Everybody");
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(sign(&key, b"Hello, World!"), signature);
        let github = Github::new(vec![key]);
        let request = headers(&[
            ("x-hub-signature-256", signature),
            ("x-github-delivery", "d-1"),
        ]);
        let verified = github.verify(&request, b"Hello, World!", at(0)).unwrap();
        assert_eq!(verified.event_id.as_deref(), Some("d-1"));
        let tampered = github.verify(&request, b"Hello, World?", at(0));
        assert_eq!(tampered, Err(SignatureError::Mismatch));
        let sha1 = headers(&[("x-hub-signature-256", "sha1=757107ea")]);
        let malformed = Err(SignatureError::Malformed("x-hub-signature-256"));
        assert_eq!(github.verify(&sha1, b"", at(0)), malformed);
    }
}
