//! Who sent a webhook: verifiers for the schemes of the providers.
//!
//! A [`Verifier`] looks at the headers and the raw body, before anything is parsed that need not
//! be. Comparisons take the same time wherever they differ. A verifier holds several [`Key`]s, so
//! that secrets can be rotated; which of them matched is told.
//!
//! | scheme | what is signed | time checked | event id |
//! |---|---|---|---|
//! | [`Mailgun`](mailgun) | timestamp and token, **not the body** | yes | `event-data.id` |
//! | [`Standard Webhooks`](standard_webhooks) | id, timestamp, body | yes | `webhook-id` |
//! | [`GitHub`](github) | body | no | `X-GitHub-Delivery` |
//! | [`Stripe`](stripe) | timestamp, body | yes | `id` |
//! | [`Shopify`](shopify) | body | no | `X-Shopify-Webhook-Id` |
//! | [`Slack`](slack) | timestamp, body | yes | `event_id` |
//! | [`hmac`] | what its template says | where it has a timestamp | none |
//! | [`token`] | nothing: a shared secret in `Authorization` | no | none |

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::HeaderMap;

pub mod github;
pub mod hmac;
pub mod mailgun;
mod secret;
pub mod shopify;
pub mod slack;
pub mod standard_webhooks;
pub mod stripe;
pub mod token;

pub use secret::Key;

/// How far the signed time may be from the time of receipt, unless the verifier says otherwise.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Checks who sent a request.
pub trait Verifier: fmt::Debug + Send + Sync + 'static {
    /// Checks a request that was received at `received_at`.
    ///
    /// # Errors
    ///
    /// What is missing or wrong, without the secret and without the right signature.
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified, SignatureError>;
}

/// What a verified request proves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The provider's id of the event, where the scheme has one: the same when it is sent again.
    pub event_id: Option<String>,
    /// Which of the keys matched, counted from 0.
    pub key: usize,
    /// What may be used once only within the tolerance, where the signature does not cover the
    /// body.
    pub single_use: Option<String>,
}

/// Why a request is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A header or field that the scheme needs is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A header or field does not have the form that the scheme prescribes.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The signed time is too far from the time of receipt.
    #[error("the signed time is too far from the time of receipt")]
    Expired,
    /// No key matches.
    #[error("the signature does not match")]
    Mismatch,
}

type Result<T, E = SignatureError> = std::result::Result<T, E>;

/// The one value of a header, as text.
fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(SignatureError::Missing(name))?;
    if values.next().is_some() {
        return Err(SignatureError::Malformed(name));
    }
    value.to_str().map_err(|_| SignatureError::Malformed(name))
}

/// Checks that `seconds` since 1970 are within `tolerance` of `received_at`, either way.
fn check_time(seconds: i64, received_at: SystemTime, tolerance: Duration) -> Result<()> {
    let received = match received_at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i128::from(after.as_secs()),
        Err(before) => -i128::from(before.duration().as_secs()),
    };
    let distance = (received - i128::from(seconds)).unsigned_abs();
    if distance > u128::from(tolerance.as_secs()) {
        return Err(SignatureError::Expired);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
pub(crate) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absurd_times_are_refused_without_overflow() {
        for seconds in [i64::MIN, i64::MIN + 1, -1, i64::MAX] {
            let result = check_time(seconds, at(1_600_000_000), TOLERANCE);
            assert_eq!(result, Err(SignatureError::Expired), "{seconds}");
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(10);
        assert_eq!(check_time(0, before, TOLERANCE), Ok(()));
    }

    #[test]
    fn the_tolerance_is_inclusive_both_ways() {
        for (seconds, wanted) in [
            (700, Ok(())),
            (1_300, Ok(())),
            (699, Err(SignatureError::Expired)),
            (1_301, Err(SignatureError::Expired)),
        ] {
            assert_eq!(check_time(seconds, at(1_000), TOLERANCE), wanted);
        }
    }

    #[test]
    fn a_header_that_stands_twice_is_malformed() {
        let twice = headers(&[("x-sig", "a"), ("x-sig", "b")]);
        assert_eq!(
            header(&twice, "x-sig"),
            Err(SignatureError::Malformed("x-sig"))
        );
        assert_eq!(
            header(&HeaderMap::new(), "x-sig"),
            Err(SignatureError::Missing("x-sig"))
        );
    }

    fn all() -> Vec<Box<dyn Verifier>> {
        let keys = vec![Key::new("k")];
        vec![
            Box::new(mailgun::Mailgun::new(keys.clone())),
            Box::new(standard_webhooks::StandardWebhooks::new(["whsec_aw=="]).unwrap()),
            Box::new(github::Github::new(keys.clone())),
            Box::new(stripe::Stripe::new(keys.clone())),
            Box::new(shopify::Shopify::new(keys.clone())),
            Box::new(slack::Slack::new(keys.clone())),
            Box::new(token::Bearer::new(keys.clone())),
            Box::new(token::Basic::new(vec![("user".into(), Key::new("k"))])),
            Box::new(
                hmac::Template::new(hmac::Hash::Sha256, "x-signature", "{body}", keys).unwrap(),
            ),
        ]
    }

    const NAMES: [&str; 11] = [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-hub-signature-256",
        "x-github-delivery",
        "stripe-signature",
        "x-shopify-hmac-sha256",
        "x-slack-signature",
        "x-slack-request-timestamp",
        "authorization",
        "x-signature",
    ];

    proptest! {
        #[test]
        fn nothing_that_is_received_panics_or_is_believed(
            values in proptest::collection::vec(proptest::collection::vec(32u8..=255, 0..80), NAMES.len()),
            body in any::<Vec<u8>>(),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in NAMES.iter().zip(values) {
                if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                    headers.insert(*name, value);
                }
            }
            for verifier in all() {
                prop_assert!(verifier.verify(&headers, &body, at(1_600_000_000)).is_err());
            }
        }
    }
}
