//! The conformance tests on local servers that speak Pub/Sub, and on Google Cloud itself where it
//! is named.
//!
//! | variable | server |
//! |---|---|
//! | `TOWPATH_PUBSUB_EMULATOR_ENDPOINT` | Google's emulator, as `cargo xtask emulators up` starts it |
//! | `TOWPATH_PSTEST_ENDPOINT` | pstest, likewise |
//! | `TOWPATH_PUBSUB_URL` | Google Cloud: a URL with `{name}` in it, as `pubsub://my-project/{name}` |
//!
//! Plain subscriptions, those with ordering and those with exactly-once delivery are tested by
//! suites of their own. Where a server does not do what Google's documentation says, the case
//! stands in `deviations/` with the reason.

use std::{env, process::ExitCode, time::Duration};

use towpath_conformance::{Suite, Timing, UrlHarness};
use towpath_core::{QueueSpec, Registry};
use towpath_pubsub::PubSub;

struct Server {
    name: &'static str,
    /// The variable that says where it is.
    variable: &'static str,
    /// How late "at once" may be.
    slack: Duration,
    /// For plain, ordered and exactly-once subscriptions.
    deviations: [&'static str; 3],
}

const SERVERS: [Server; 2] = [
    Server {
        name: "gcloud",
        variable: "TOWPATH_PUBSUB_EMULATOR_ENDPOINT",
        slack: Duration::from_secs(1),
        deviations: ["", include_str!("deviations/gcloud-ordered.toml"), ""],
    },
    Server {
        name: "pstest",
        variable: "TOWPATH_PSTEST_ENDPOINT",
        // It gives a stream about 95 messages a second, and a case sends 1,000.
        slack: Duration::from_secs(2),
        deviations: [""; 3],
    },
];

fn main() -> ExitCode {
    let mut suites = Vec::new();
    for server in SERVERS {
        let timing = Timing::local().with_slack(server.slack);
        for ((kind, spec), deviations) in kinds().into_iter().zip(server.deviations) {
            let name = format!("{}{kind}", server.name);
            let timing = timing.clone();
            suites.push(Suite::from_env(&name, server.variable, |endpoint| {
                let url = format!(
                    "pubsub://towpath-test/{{name}}?endpoint={endpoint}&health_interval=3s"
                );
                Suite::new(harness(&name, &url, spec, timing)).with_deviations(deviations)
            }));
        }
    }
    if let Ok(url) = env::var("TOWPATH_PUBSUB_URL") {
        for (kind, spec) in kinds() {
            let name = format!("google{kind}");
            suites.push(Suite::new(harness(&name, &url, spec, Timing::cloud())));
        }
    }
    towpath_conformance::main(suites)
}

fn kinds() -> [(&'static str, QueueSpec); 3] {
    [
        ("", QueueSpec::new()),
        (" ordered", QueueSpec::new().with_ordering()),
        (" exactly-once", QueueSpec::new().with_exactly_once()),
    ]
}

fn harness(name: &str, url: &str, spec: QueueSpec, timing: Timing) -> UrlHarness {
    let harness = UrlHarness::new(name, || Registry::new().with(PubSub::new()), url)
        // The shortest lease of Pub/Sub.
        .with_timing(timing.with_lease(Duration::from_secs(10)))
        .with_spec(spec);
    if url.contains("endpoint=") {
        harness.with_endpoint_option("endpoint")
    } else {
        harness
    }
}
