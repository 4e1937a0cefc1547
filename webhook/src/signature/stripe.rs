//! Stripe: a timestamp and signatures in one header.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{
    Key, Place, SignatureError, Signed, Signer, Tolerance, Verified, Verifier, json,
    key::{MacKeys, header, header_value},
    tolerance::Timestamp,
};
const SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");

/// The most signatures that are compared.
const MAX_SIGNATURES: usize = 16;

/// Stripe's webhooks: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=..]` over time and body.
///
/// The id is that of the event, the field `id` of the body. The secret is used as it is shown,
/// `whsec_` included.
///
/// <https://docs.stripe.com/webhooks#verify-manually>
#[derive(Clone, Debug)]
pub struct Stripe {
    keys: MacKeys,
    tolerance: Tolerance,
}

impl Stripe {
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

/// The timestamp as written, and the `v1` signatures; other versions are left out.
fn parse(text: &str) -> Result<(&str, Vec<Vec<u8>>), SignatureError> {
    let malformed = |reason| Place::Header(SIGNATURE).malformed(reason);
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for item in text.split(',') {
        match item.trim().split_once('=') {
            Some(("t", _)) if timestamp.is_some() => return Err(malformed("holds t= twice")),
            Some(("t", value)) => timestamp = Some(value),
            Some(("v1", _)) if signatures.len() == MAX_SIGNATURES => {
                return Err(malformed("holds more than 16 signatures"));
            }
            Some(("v1", value)) => signatures.push(
                hex::decode(value).map_err(|_| malformed("holds a v1 that is not hexadecimal"))?,
            ),
            Some(_) => {}
            None => return Err(malformed("is not a list of t=.. and v1=..")),
        }
    }
    if signatures.is_empty() {
        return Err(malformed("holds no v1 signature"));
    }
    Ok((
        timestamp.ok_or_else(|| malformed("holds no t="))?,
        signatures,
    ))
}

impl Verifier for Stripe {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified, SignatureError> {
        let (seconds, signatures) = parse(header(headers, &SIGNATURE)?)?;
        let timestamp = Timestamp::parse(seconds, Place::Header(SIGNATURE))?;
        let key = self
            .keys
            .position(&[seconds.as_bytes(), b".", body], &signatures)
            .ok_or(SignatureError::Mismatch(Place::Header(SIGNATURE)))?;
        self.tolerance.check(timestamp, received_at)?;
        Ok(Verified {
            event_id: json::string_field(body, "id"),
            key,
            signed_at: timestamp.time(),
            single_use: None,
        })
    }
}

impl Signer for Stripe {
    /// The id of the event stands in the body; `id` is ignored.
    fn sign(&self, body: &[u8], _id: &str, at: SystemTime) -> towpath_core::Result<Signed> {
        let seconds = Timestamp::at(at)?.to_string();
        let signature = hex::encode(self.keys.sign(&[seconds.as_bytes(), b".", body])?);
        let value = header_value(&SIGNATURE, &format!("t={seconds},v1={signature}"))?;
        Ok(Signed {
            headers: HeaderMap::from_iter([(SIGNATURE, value)]),
            body: Bytes::copy_from_slice(body),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const V1: &str = "v1=e135cdbed3dda004bf8a2fb350f2541d299393c770e0b9e6e319dc595e9072aa";

    fn verify(header: &str) -> Result<Verified, SignatureError> {
        let stripe = Stripe::new([Key::new("whsec_test_secret")]);
        let headers = HeaderMap::from_iter([(SIGNATURE, header.parse().unwrap())]);
        let at = UNIX_EPOCH + Duration::from_secs(1_614_265_330);
        stripe.verify(&headers, br#"{"id":"evt_1"}"#, at)
    }

    #[test]
    fn the_known_signature_is_accepted() {
        let verified = verify(&format!("t=1614265330,{V1}")).unwrap();
        assert_eq!(verified.event_id.as_deref(), Some("evt_1"));
    }

    #[test]
    fn one_right_signature_among_several_is_enough_and_v0_does_not_count() {
        let wrong = format!("v1={}", "00".repeat(32));
        assert!(verify(&format!("t=1614265330,{wrong},{V1},v0=junk,future")).is_err());
        assert!(verify(&format!("t=1614265330, {wrong}, {V1}, v0=junk")).is_ok());
        let v0 = V1.replace("v1", "v0");
        let error = verify(&format!("t=1614265330,{wrong},{v0}")).unwrap_err();
        assert_eq!(error.as_str(), "mismatch");
    }

    #[test]
    fn a_header_of_another_form_is_malformed() {
        let many = format!("t=1614265330{}", ",v1=00".repeat(17));
        let twice = format!("t=1614265330,t=1614265330,{V1}");
        let v0 = format!("t=1614265330,{}", V1.replace("v1", "v0"));
        for header in [
            "",
            "t=1614265330",
            V1,
            "t=1,v1=xyz",
            "t=,v1=00",
            "t=-5,v1=00",
            &many,
            &twice,
            &v0,
        ] {
            assert_eq!(
                verify(header).unwrap_err().as_str(),
                "malformed",
                "{header}"
            );
        }
    }
}
