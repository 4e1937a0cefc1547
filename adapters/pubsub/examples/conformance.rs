//! The conformance tests on the Pub/Sub servers that the environment names: as queues are by
//! default, with ordering, and with exactly-once delivery.
//!
//! An example and not a test yet, because some cases fail: see `PROGRESS.md`.
//!
//! ```sh
//! eval "$(cargo xtask emulators up --only google pstest)"
//! cargo run -p towpath-pubsub --example conformance
//! ```

use std::{process::ExitCode, time::Duration};

use towpath_conformance::{Suite, Timing, UrlHarness};
use towpath_core::{QueueSpec, Registry};
use towpath_pubsub::PubSub;

/// A server: its name, and the variable that says where it is.
struct Server {
    name: &'static str,
    variable: &'static str,
}

const SERVERS: [Server; 2] = [
    Server {
        name: "gcloud",
        variable: "TOWPATH_PUBSUB_EMULATOR_ENDPOINT",
    },
    Server {
        name: "pstest",
        variable: "TOWPATH_PSTEST_ENDPOINT",
    },
];

fn main() -> ExitCode {
    let kinds = [
        ("", QueueSpec::new()),
        (" ordered", QueueSpec::new().with_ordering()),
        (" exactly-once", QueueSpec::new().with_exactly_once()),
    ];
    towpath_conformance::main(SERVERS.iter().flat_map(|server| {
        kinds
            .clone()
            .map(|(kind, spec)| suite(server, &format!("{}{kind}", server.name), spec))
    }))
}

fn suite(server: &Server, name: &str, spec: QueueSpec) -> Suite {
    Suite::from_env(name, server.variable, |endpoint| {
        let harness = UrlHarness::new(
            name,
            || Registry::new().with(PubSub::new()),
            format!("pubsub://towpath-test/{{name}}?endpoint={endpoint}&health_interval=3s"),
        )
        // The shortest lease of Pub/Sub.
        .with_timing(Timing::local().with_lease(Duration::from_secs(10)))
        .with_spec(spec)
        .with_endpoint_option("endpoint");
        Suite::new(harness)
    })
}
