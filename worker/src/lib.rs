//! Runs handlers on the messages of a queue: concurrency by permits, retries, dead letters and a
//! graceful drain.
//!
//! ```
//! # async fn example(queue: towpath_core::Queue) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use towpath_core::{Attempt, Failure};
//! use towpath_worker::{Backoff, RetryPolicy, Worker, shutdown_signal};
//!
//! let worker = Worker::builder(queue.consumer().await?, |attempt: Attempt| async move {
//!     let order: u64 = attempt.json()?;
//!     println!("order {order}, attempt {:?}", attempt.number());
//!     Ok::<_, Failure>(())
//! })
//! .concurrency(64)
//! .handler_timeout(Duration::from_secs(30))
//! .retry(RetryPolicy::new(Backoff::exponential(
//!     Duration::from_secs(1),
//!     Duration::from_secs(600),
//! )))
//! .build()?;
//! let report = worker.run_until(shutdown_signal()?).await;
//! assert!(report.is_balanced());
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | you want to | look at |
//! |---|---|
//! | run a handler | [`Worker`], [`WorkerBuilder`] |
//! | say when to retry | [`RetryPolicy`], [`Backoff`] |
//! | take typed arguments | [`typed`], [`extract`] |
//! | put something around it | [`layers`], [the guide](guide) |
//! | pause and resume | [`Gate`] |
//! | stop well | [`shutdown_signal`], [`Report`] |
//! | see how it goes | [`Stats`], [`metrics`], [`layers::TraceLayer`], [`Health`], [`DepthSampler`] |
//! | send dead letters on | [`Redrive`], [`RedriveFilter`], [`redrive::copy`] |
//! | move messages by rules of your own | [`transfer`] |
//!
//! # Features
//!
//! `opentelemetry`: the spans of the [trace layer](layers::TraceLayer) are exported as children of,
//! or linked to, the spans of the senders. Default: none.

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod attempt;
mod builder;
mod depth;
pub mod extract;
mod gate;
#[doc = include_str!("../docs/layers.md")]
pub mod guide {}
mod health;
mod in_hand;
mod keys;
pub mod layers;
pub mod metrics;
mod notes;
#[cfg(feature = "opentelemetry")]
mod otel;
mod permits;
mod receive;
pub mod redrive;
mod report;
mod retry;
mod runtime;
mod service;
mod settle;
mod shutdown;
mod trace_context;
pub mod transfer;
mod typed;
mod worker;

pub use builder::WorkerBuilder;
pub use depth::DepthSampler;
pub use gate::{Gate, Hold};
pub use health::{Health, HealthReport};
pub use redrive::{Fate, Redrive, RedriveEnd, RedriveFilter, RedriveReport, Redriven};
pub use report::{Report, Stats};
pub use retry::{Backoff, RetryPolicy};
pub use service::{AttemptService, HandlerService, OutcomeFuture, ServiceHandler};
pub use shutdown::shutdown_signal;
pub use trace_context::{TraceContext, TraceContextError};
pub use typed::{IntoOutcome, Typed, TypedFn, typed, typed_with};
pub use worker::Worker;
