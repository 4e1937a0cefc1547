//! Receives webhooks into a queue: verifies, checks, answers as the provider expects, and loses
//! none.
//!
//! # Map
//!
//! | you want to | look at |
//! |---|---|
//! | read a body that is not too large, too slow or of another type | [`BodyRules`] |
//! | check who sent a request | [`signature`]: Mailgun, Standard Webhooks, GitHub, Stripe, Shopify, Slack, any HMAC, Basic, Bearer |
//! | accept a signature that does not cover the body only once | [`signature::replay::TokenStore`] |
//! | check the shape of a JSON body | [`Schema`] |
//! | accept each event once, and give copies the same answer | [`dedup`] |
//! | answer as the provider wants | [`Profile`], [`Refusal`], [`Problem`] |
//! | keep a secret out of logs and configuration files | [`Secret`] |
//! | sign a request, in a test | [`signature::Signer`] |

mod body;
pub mod dedup;
mod problem;
mod profile;
mod refusal;
mod schema;
pub mod signature;

pub use body::{BodyError, BodyRules};
pub use problem::{FieldError, Problem};
pub use profile::{Answer, Profile};
pub use refusal::Refusal;
pub use schema::{Schema, SchemaError};
pub use towpath_core::config::Secret;
