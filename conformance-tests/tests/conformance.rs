//! The conformance tests on the in-memory backend, in each of its profiles.

use std::process::ExitCode;

use towpath_conformance::{Suite, Timing, UrlHarness};
use towpath_core::Registry;
use towpath_memory::MemoryBackend;

fn main() -> ExitCode {
    let profiles = [
        "strict",
        "sqs",
        "sqs-fifo",
        "pubsub",
        "pubsub-ordered",
        "pubsub-exactly-once",
    ];
    towpath_conformance::main(profiles.map(|profile| {
        let backend = MemoryBackend::new();
        Suite::new(
            UrlHarness::new(
                format!("memory {profile}"),
                move || Registry::new().with(backend.clone()),
                format!("memory://{{name}}?profile={profile}"),
            )
            .with_timing(Timing::paused())
            .with_missing_option("create", "false"),
        )
    }))
}
