//! The layers, each around a handler in a worker.

mod breaker;
mod idempotency;
mod limits;
mod outcomes;
