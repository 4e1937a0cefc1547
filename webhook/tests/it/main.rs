//! Tests of the public interface.

mod arbitrary;
mod body_over_http;
mod senders;
mod signatures;
