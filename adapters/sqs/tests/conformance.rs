//! The conformance tests on local servers that speak SQS, and on AWS itself where it is named.
//!
//! | variable | server |
//! |---|---|
//! | `TOWPATH_FAUXQS_ENDPOINT` | fauxqs, as `cargo xtask emulators up` starts it |
//! | `TOWPATH_ELASTICMQ_ENDPOINT` | ElasticMQ, likewise |
//! | `TOWPATH_SQS_URL` | AWS: a URL with `{name}` in it, as `sqs://{name}?region=eu-west-1` |
//!
//! Standard and FIFO queues are tested by suites of their own. Where a server does not do what the
//! documentation of AWS says, the case stands in `deviations/` with the reason.

use std::{env, process::ExitCode, time::Duration};

use towpath_conformance::{Suite, Timing, UrlHarness};
use towpath_core::{QueueSpec, Registry};
use towpath_sqs::Sqs;

/// Name, variable, and the deviations of standard and of FIFO queues.
const SERVERS: [(&str, &str, &str, &str); 2] = [
    (
        "fauxqs",
        "TOWPATH_FAUXQS_ENDPOINT",
        include_str!("deviations/fauxqs.toml"),
        include_str!("deviations/fauxqs-fifo.toml"),
    ),
    (
        "elasticmq",
        "TOWPATH_ELASTICMQ_ENDPOINT",
        include_str!("deviations/elasticmq.toml"),
        include_str!("deviations/elasticmq-fifo.toml"),
    ),
];

fn main() -> ExitCode {
    let mut suites = Vec::new();
    for (server, variable, standard_deviations, fifo_deviations) in SERVERS {
        let local = |endpoint: &str| format!("sqs://{{name}}?endpoint={endpoint}");
        suites.push(Suite::from_env(server, variable, |endpoint| {
            Suite::new(standard(server, &local(endpoint), local_timing()))
                .with_deviations(standard_deviations)
        }));
        let name = format!("{server} fifo");
        suites.push(Suite::from_env(&name, variable, |endpoint| {
            Suite::new(fifo(&name, &local(endpoint), local_timing()))
                .with_deviations(fifo_deviations)
        }));
    }
    if let Ok(url) = env::var("TOWPATH_SQS_URL") {
        suites.push(Suite::new(standard("aws", &url, Timing::cloud())));
        suites.push(Suite::new(fifo("aws fifo", &url, Timing::cloud())));
    }
    towpath_conformance::main(suites)
}

/// A lease longer than usual for local servers: it is extended at half of its time, and servers and
/// tests share the cores.
fn local_timing() -> Timing {
    Timing::local().with_lease(Duration::from_secs(4))
}

fn standard(name: &str, url: &str, timing: Timing) -> UrlHarness {
    let harness = UrlHarness::new(name, || Registry::new().with(Sqs::new()), url);
    let harness = harness.with_timing(timing);
    if url.contains("endpoint=") {
        harness.with_endpoint_option("endpoint")
    } else {
        harness
    }
}

fn fifo(name: &str, url: &str, timing: Timing) -> UrlHarness {
    standard(name, url, timing)
        .with_suffix(".fifo")
        .with_spec(QueueSpec::new().with_ordering())
}
