//! Who sent a request: signatures of webhooks, checked and made.
//!
//! | scheme | what is signed | time checked | event id |
//! |---|---|---|---|
//! | [`Mailgun`](mailgun::Mailgun) | timestamp and token, **not the body** | 9 h | `event-data.id`; the token of a form |
//! | [`StandardWebhooks`](standard_webhooks::StandardWebhooks) | id, timestamp, body | 300 s | `webhook-id` |
//! | [`Github`](github::Github) | body | no | `X-GitHub-Delivery`, not signed |
//! | [`Stripe`](stripe::Stripe) | timestamp, body | 300 s | `id` of the body |
//! | [`Shopify`](shopify::Shopify) | body | no | `X-Shopify-Webhook-Id`, not signed |
//! | [`Slack`](slack::Slack) | timestamp, body | 300 s | `event_id` of the body |
//! | [`Template`](hmac::Template) | what its template says | 300 s, where it has a timestamp | a header of your choice |
//! | [`Basic`](basic::Basic), [`Bearer`](bearer::Bearer) | nothing: a shared secret | no | none |
//!
//! ```
//! use std::time::SystemTime;
//! use http::HeaderMap;
//! use towpath_webhook::signature::{Key, Verifier, github::Github};
//!
//! let github = Github::new([Key::new("It's a Secret to Everybody")]);
//! let mut headers = HeaderMap::new();
//! headers.insert(
//!     "x-hub-signature-256",
//!     "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17".parse().unwrap(),
//! );
//! let verified = github.verify(&headers, b"Hello, World!", SystemTime::now())?;
//! assert_eq!(verified.key, 0);
//! # Ok::<(), towpath_webhook::signature::SignatureError>(())
//! ```
//!
//! Verifiers are pure: the time is that of the receipt, given by the caller, and nothing is
//! remembered. Where a signature does not cover the body, [`Verified::single_use`] says what may
//! be used only once, and a [`TokenStore`](replay::TokenStore) remembers it.
//!
//! Several keys may be live at once, so that they can be rotated: accept the new one, let the
//! provider change over, remove the old one. [`Verified::key`] says which one was used. Keys and
//! signatures are compared in constant time; an empty key matches nothing.
//!
//! Bound the size of a body before it comes here: the work grows with its size.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use http::HeaderMap;

pub mod basic;
pub mod bearer;
mod error;
mod fields;
pub mod github;
pub mod hmac;
mod json;
mod key;
pub mod mailgun;
pub mod replay;
pub mod shopify;
pub mod slack;
pub mod standard_webhooks;
pub mod stripe;
mod tolerance;

pub use error::{Malformed, Place, SignatureError};
pub use key::Key;
pub use tolerance::Tolerance;

/// Says whether a request was made by somebody who has a key.
pub trait Verifier: fmt::Debug + Send + Sync + 'static {
    /// Checks the request that was received at `received_at`; `body` is the exact bytes.
    ///
    /// # Errors
    ///
    /// [`SignatureError`]: what is missing, malformed, too old or wrong. It holds no key, no
    /// expected signature and nothing that the sender wrote.
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified, SignatureError>;
}

/// Makes requests that the [`Verifier`] of the same type accepts, for tests and examples.
pub trait Signer: Verifier {
    /// Signs `body` as the provider would at `at`, with the first key.
    ///
    /// `id` names the delivery: it becomes the provider's id header, and Mailgun's token. Schemes
    /// that have neither ignore it.
    ///
    /// # Errors
    ///
    /// `InvalidMessage` when `id` or `body` cannot be part of such a request, or `at` is before
    /// 1970; `Unsupported` when there is no key that signs.
    fn sign(&self, body: &[u8], id: &str, at: SystemTime) -> towpath_core::Result<Signed>;
}

/// What a verified request says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The provider's id of the event or delivery, the same when it is sent again.
    pub event_id: Option<String>,
    /// Which of the live keys was used, counted from 0 in the order they were given.
    pub key: usize,
    /// When the request was signed, where the signature covers a time.
    pub signed_at: Option<SystemTime>,
    /// What may be used only once within the tolerance, where the signature does not cover the
    /// body: give it to a [`TokenStore`](replay::TokenStore).
    pub single_use: Option<String>,
}

/// A signed request: the headers to add to it, and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signed {
    /// The headers of the signature.
    pub headers: HeaderMap,
    /// The body to send, which is the given one unless the signature is part of the body.
    pub body: Bytes,
}
