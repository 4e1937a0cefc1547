//! Tests of the public interface.

mod accepting;
mod arbitrary;
mod body_over_http;
mod once;
mod outage;
mod senders;
mod signatures;
mod support;
