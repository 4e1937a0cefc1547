//! Benchmarks of towpath beside its peers: `cargo bench -p towpath-benches`.
//!
//! Here is what the benches against a server share.
#![cfg_attr(feature = "server", allow(clippy::print_stdout, clippy::print_stderr))]

#[cfg(feature = "server")]
pub mod load;
#[cfg(feature = "server")]
pub mod medians;
#[cfg(feature = "server")]
pub mod process;
#[cfg(feature = "server")]
pub mod towpath_queue;

/// What went wrong, for people.
#[cfg(feature = "server")]
pub type Error = Box<dyn std::error::Error + Send + Sync>;
