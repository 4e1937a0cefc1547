//! The worker on the in-memory queue, under a paused clock, and as processes on an SQS server.
// The ledger prints its figures.
#![allow(missing_docs, clippy::print_stdout)]

mod concurrency;
mod config;
mod dashboard;
mod dead_letter;
mod drain;
mod driver;
mod health;
mod keys;
mod layers;
mod lease;
mod ledger;
mod metrics;
mod pause;
#[cfg(unix)]
mod process;
mod receive;
mod redrive;
mod retry;
mod settle;
mod stats;
mod support;
mod trace;
mod transfer;
mod typed;
mod wire;
