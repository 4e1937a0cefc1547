//! Receives webhooks into a queue: verifies, checks, answers as the provider expects, and loses
//! none.
//!
//! # Map
//!
//! | you want to | look at |
//! |---|---|
//! | check who sent a request | [`signature`]: Mailgun, Standard Webhooks, GitHub, Stripe, Shopify, Slack, any HMAC, Basic, Bearer |
//! | sign a request, in a test | [`signature::Signer`] |
//! | accept a signature that does not cover the body only once | [`signature::replay::TokenStore`] |
//! | keep a secret out of logs and configuration files | [`Secret`] |

mod secret;
pub mod signature;

pub use secret::Secret;
