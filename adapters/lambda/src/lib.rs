//! Runs a [`Handler`](towpath_core::Handler) in AWS Lambda, on the messages of an SQS queue.
//!
//! ```no_run
//! use towpath_core::{Attempt, Failure};
//! use towpath_lambda::SqsFunction;
//!
//! async fn handle(attempt: Attempt) -> Result<(), Failure> {
//!     let order: u64 = attempt.json()?;
//!     println!("order {order}");
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), towpath_lambda::Error> {
//!     SqsFunction::new(handle).run().await
//! }
//! ```
//!
//! # The event source mapping
//!
//! Set `FunctionResponseTypes: [ReportBatchItemFailures]`. Without it, Lambda ignores which
//! messages failed and **deletes them all** when the function returns; say
//! [`whole_batches`](SqsFunctionBuilder::whole_batches) for mappings that cannot have it. Set the
//! queue's visibility timeout to at least the function's timeout (AWS recommends six times that),
//! and give the queue a redrive policy: it is what ends the retries of messages that always fail.
//!
//! # What happens to a message
//!
//! | the handler | the message |
//! |---|---|
//! | returns `Ack` | is reported as done, and Lambda deletes it |
//! | returns `Retry` or `Release`, or panics | is reported as failed, and comes back when its visibility timeout is over; `after` cannot be honoured, and the delivery counts |
//! | returns `DeadLetter` | is copied to the [dead-letter queue](SqsFunctionBuilder::dead_letter) and then reported as done; without one, or when the copy fails, it is reported as failed |
//! | is not done shortly before the function's deadline | is cancelled and reported as failed |
//!
//! Messages of a standard queue are handled [many at once](SqsFunctionBuilder::concurrency). On a
//! FIFO queue, the messages of a group are handled one after the other, and after a failure it and
//! all that follow of its group are reported as failed.
//!
//! A record that cannot be read is reported as failed by itself. An event that is not of SQS, or
//! has a record without an id, fails as a whole, since nothing less would be safe.
//!
//! # Messages
//!
//! Messages are read as the SQS adapter reads them: those that towpath sent keep their idempotency
//! key, binary body and failure record, and those of others get a key derived from their id. The
//! MD5 digests are not compared, since hand-written test events rarely have right ones.

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod batch;
mod function;
mod record;

pub use function::{SqsFunction, SqsFunctionBuilder};
/// The error of a function, as `lambda_runtime` has it.
pub use lambda_runtime::Error;
