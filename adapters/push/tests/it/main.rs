//! Push requests, as Pub/Sub makes them.

mod harness;
mod keys;
mod outcomes;
mod requests;
mod tokens;
