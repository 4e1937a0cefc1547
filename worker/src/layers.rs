//! Middleware: tower layers around a handler, one idea each.
//!
//! ```
//! # async fn example(consumer: towpath_core::Consumer) -> towpath_core::Result<()> {
//! use std::time::Duration;
//! use towpath_core::{Attempt, Failure};
//! use towpath_worker::{Worker, layers::{CatchPanicLayer, IdempotencyLayer, MemoryStore, TimeoutLayer}};
//!
//! let worker = Worker::builder(consumer, |attempt: Attempt| async move {
//!     println!("{}", attempt.json::<u64>()?);
//!     Ok::<_, Failure>(())
//! })
//! .layer(TimeoutLayer::new(Duration::from_secs(10)))
//! .layer(IdempotencyLayer::new(MemoryStore::new(Duration::from_secs(3_600))))
//! .layer(CatchPanicLayer::new())
//! .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! Each layer goes around those before it, so the last one sees an attempt first. Any tower layer
//! of the right shape fits, see [`AttemptService`](crate::AttemptService), and
//! [the guide](crate::guide) builds one from nothing. The layers work without the worker, too:
//! [`ServiceHandler`](crate::ServiceHandler) makes a [`Handler`](towpath_core::Handler) of the whole
//! stack, which Lambda and push endpoints run as well.
//!
//! | layer | what it does |
//! |---|---|
//! | [`TimeoutLayer`] | bounds the time of an attempt |
//! | [`RetryLayer`] | runs the handler again in place, while the lease is kept |
//! | [`DeadLetterLayer`] | gives up on failures that no retry can help |
//! | [`IdempotencyLayer`] | handles a message once, however often it is delivered |
//! | [`TraceLayer`] | a span per attempt, in the trace of the sender |
//! | [`MetricsLayer`] | durations and outcomes |
//! | [`CatchPanicLayer`] | makes a panic a failed attempt |
//! | [`ConcurrencyLayer`] | bounds how many attempts run at once, over several workers |
//! | [`RateLimitLayer`] | bounds how many attempts start per time |
//! | [`CircuitBreakerLayer`] | pauses the worker while what it depends on is down |

mod catch_panic;
mod circuit_breaker;
mod concurrency;
mod dead_letter;
mod idempotency;
mod metrics;
mod rate_limit;
mod retry;
mod timeout;
mod trace;

pub use catch_panic::{CatchPanic, CatchPanicLayer};
pub use circuit_breaker::{BreakerState, CircuitBreaker, CircuitBreakerLayer};
pub use concurrency::{Concurrency, ConcurrencyLayer};
pub use dead_letter::{DeadLetter, DeadLetterLayer};
pub use idempotency::{Claim, Idempotency, IdempotencyLayer, IdempotencyStore, MemoryStore};
pub use metrics::{Metrics, MetricsLayer};
pub(crate) use rate_limit::Rate;
pub use rate_limit::{RateLimit, RateLimitLayer};
pub use retry::{RetryInPlace, RetryLayer};
pub use timeout::{Timeout, TimeoutLayer};
pub use trace::{Trace, TraceLayer};
