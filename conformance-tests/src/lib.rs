//! The conformance tests of towpath, for any backend.
mod case;
mod cases;
mod context;
mod deviations;
mod harness;
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
