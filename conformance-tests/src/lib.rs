//! The conformance tests of towpath, for any backend.
//!
//! What a queue promises is written down as [cases]: data with a name that says what holds, a
//! one-line promise, what the queue must be able to do, and a function that finds out. They run
//! unchanged on the in-memory queue under a paused clock, on local servers and on real clouds.
//!
//! # Test a backend of your own
//!
//! Implement [`towpath_core::driver::Backend`], add a test without the usual harness
//! (`[[test]] name = "conformance", harness = false`), and write:
//!
//! ```no_run
//! # use towpath_memory::MemoryBackend as MyBackend;
//! use towpath_conformance::{Suite, UrlHarness};
//! use towpath_core::Registry;
//!
//! fn main() -> std::process::ExitCode {
//!     let harness = UrlHarness::new(
//!         "my backend",
//!         || Registry::new().with(MyBackend::new()),
//!         "mine://{name}?endpoint=http://127.0.0.1:9324",
//!     );
//!     towpath_conformance::main([Suite::new(harness)])
//! }
//! ```
//!
//! The usual arguments of tests work: a filter, `--list`, `--test-threads`. A case whose needs the
//! queue does not meet is shown as ignored, with the reason.
//!
//! # Map
//!
//! | you want to | look at |
//! |---|---|
//! | run all cases | [`Suite`], [`main`] |
//! | say how queues are named and how exact time is | [`UrlHarness`], [`Timing`] |
//! | test what has no URL, or cut its connection | [`Harness`] |
//! | accept a failure that is known, with its reason | [`Suite::with_deviations`] |
//! | write a case | [`Case`], [`Context`], [`ensure!`], [`ensure_eq!`] |
//! | check what a load or fault run did to its messages | [`history`] |
//! | run cases in a program of your own | [`run_case`], [`Run`], [`markdown`], [`junit`] |
//!
//! That the cases find what is wrong is proved by mutants: the in-memory backend with one bug each.
//! Every mutant must be found by a case, and every case must find a mutant.

mod case;
mod cases;
mod context;
mod deviations;
mod harness;
pub mod history;
mod proxy;
mod report;
mod run;
mod suite;
mod url_harness;

pub use case::{Case, CaseError, CaseResult, Group, Need};
pub use cases::cases;
pub use context::{Context, TestQueue};
pub use deviations::Deviation;
pub use harness::{Harness, Timing};
pub use report::{Counts, Run, junit, markdown};
pub use run::{Outcome, Report, run_case};
pub use suite::{Suite, main};
pub use url_harness::UrlHarness;
