//! Tests of the public interface.

mod arbitrary;
mod senders;
mod signatures;
