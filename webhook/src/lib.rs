//! Receives webhooks into a queue: verifies, checks, answers as the provider expects, and loses
//! none.
//!
//! # Map
//!
//! | you want to | look at |
//! |---|---|
//! | receive webhooks into queues | [`Receiver`], [`Config`] |
//! | keep messages on disk while a queue is down | [`spool`], [`Overflow`] |
//! | read a body that is not too large, too slow or of another type | [`BodyRules`] |
//! | check who sent a request | [`signature`]: Mailgun, Standard Webhooks, GitHub, Stripe, Shopify, Slack, any HMAC, Basic, Bearer |
//! | accept a signature that does not cover the body only once | [`signature::replay::TokenStore`] |
//! | check the shape of a JSON body | [`Schema`] |
//! | accept each event once, and give copies the same answer | [`dedup`] |
//! | answer as the provider wants | [`Profile`], [`Refusal`], [`Problem`] |
//! | keep a secret out of logs and configuration files | [`Secret`] |
//! | sign a request, in a test | [`signature::Signer`] |

mod body;
mod config;
pub mod dedup;
mod overflow;
mod problem;
mod profile;
mod rate_limit;
mod receiver;
mod refusal;
mod schema;
pub mod signature;
pub mod spool;

pub use body::{BodyError, BodyRules};
pub use config::Config;
pub use overflow::Overflow;
pub use problem::{FieldError, Problem};
pub use profile::{Answer, Profile};
pub use receiver::{Receiver, ReceiverBuilder, Watch, describe_metrics};
pub use refusal::Refusal;
pub use schema::{Schema, SchemaError};
pub use towpath_core::config::Secret;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
