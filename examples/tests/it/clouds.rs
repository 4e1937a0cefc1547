//! The same program on every cloud, with the same ledger.

use std::env;

use crate::{promised, run};

fn check(url: &str) {
    assert_eq!(
        run("swap-the-cloud", &[("ORDERS_URL", url)]),
        promised("04")
    );
}

/// The address of a server, which must be there where the tests are complete.
fn server(variable: &str) -> Option<String> {
    let endpoint = env::var(variable).ok();
    assert!(
        endpoint.is_some() || env::var_os("CONFORMANCE_REQUIRED").is_none(),
        "{variable} is not set; run `cargo xtask test`"
    );
    if endpoint.is_none() {
        eprintln!("not run: {variable} is not set; `cargo xtask test` sets it");
    }
    endpoint
}

#[test]
fn in_memory() {
    assert_eq!(run("swap-the-cloud", &[]), promised("04"));
}

#[test]
fn in_memory_with_the_limits_and_faults_of_sqs() {
    check(
        "memory://orders?profile=sqs&max_attempts=9&dead_letter=orders-dlq\
         &faults=duplicate:0.05,reorder:0.1,throttle:0.05&seed=3",
    );
}

#[test]
fn on_sqs() {
    for variable in ["TOWPATH_FAUXQS_ENDPOINT", "TOWPATH_ELASTICMQ_ENDPOINT"] {
        if let Some(endpoint) = server(variable) {
            let name = format!("swap-{}", std::process::id());
            check(&format!(
                "sqs://{name}?region=us-east-1&endpoint={endpoint}&max_attempts=3&dead_letter={name}-dlq"
            ));
        }
    }
}

#[test]
fn on_pubsub() {
    if let Some(endpoint) = server("TOWPATH_PSTEST_ENDPOINT") {
        let name = format!("swap-{}", std::process::id());
        check(&format!(
            "pubsub://towpath-test/{name}?endpoint={endpoint}&max_attempts=3&dead_letter={name}-dlq"
        ));
    }
}
