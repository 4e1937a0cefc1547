//! Runs a [`Handler`](towpath_core::Handler) on the push requests of a Pub/Sub subscription.
//!
//! ```no_run
//! use towpath_core::{Attempt, Failure};
//! use towpath_push::{PushEndpoint, TokenVerifier};
//!
//! async fn handle(attempt: Attempt) -> Result<(), Failure> {
//!     let order: u64 = attempt.json()?;
//!     println!("order {order}");
//!     Ok(())
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = TokenVerifier::google(
//!     "https://orders.example/push",
//!     "pusher@my-project.iam.gserviceaccount.com",
//! )?;
//! let endpoint = PushEndpoint::builder(handle, verifier)
//!     .subscription("projects/my-project/subscriptions/orders")
//!     .build()?;
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
//! axum::serve(listener, endpoint.router("/push")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The subscription
//!
//! Give it a push endpoint with authentication (a service account, and an audience), an
//! acknowledgement deadline longer than the [time a handler may take](PushEndpointBuilder::timeout),
//! a retry policy with backoff, and a dead-letter policy: without one, Pub/Sub counts no attempts
//! and retries for ever.
//!
//! Both forms of a request are read: *wrapped*, JSON with the message in base64, and *unwrapped*,
//! the body as it is. An unwrapped request tells nothing but the body unless the subscription says
//! *write metadata*; without that, a message has neither id nor attributes, and is refused.
//!
//! # What happens to a message
//!
//! | the handler | the answer | the message |
//! |---|---|---|
//! | returns `Ack` | 204 | is acked |
//! | returns `Retry`, panics, or takes too long | 503 | comes back, by the subscription's retry policy |
//! | returns `Release` | 429 | comes back, as above; Pub/Sub counts the delivery |
//! | returns `DeadLetter` | 204 when its copy was accepted, else 503 | is in the [dead-letter queue](PushEndpointBuilder::dead_letter), or comes back |
//!
//! `after` is written into `Retry-After`, but Pub/Sub does not honour it.
//!
//! What is refused is answered with problem JSON (RFC 9457), and is not acked either: 401 without a
//! valid token, 403 with one of somebody else, 413 beyond the size, 400 for what cannot be read, 429
//! beyond the [concurrency](PushEndpointBuilder::concurrency), 503 while Google's keys cannot be
//! had.

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod endpoint;
mod keys;
mod outcome;
mod problem;
mod request;
mod token;

pub use endpoint::{PushEndpoint, PushEndpointBuilder};
pub use token::TokenVerifier;
