//! The worker on the in-memory queue, under a paused clock.
#![allow(missing_docs)]

mod concurrency;
mod config;
mod dead_letter;
mod drain;
mod keys;
mod lease;
mod pause;
mod receive;
mod retry;
mod support;
