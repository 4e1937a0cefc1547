//! What is particular to Pub/Sub, against the servers that the environment names: Google's
//! emulator, and pstest, which can be told to fail.
//!
//! Tests of a server that is not there are shown as ignored, and fail under
//! `CONFORMANCE_REQUIRED=1`. The fault runs come last and alone; `-- load::` runs nothing else.

mod admin;
mod closing;
mod crash;
mod delays;
mod faults;
mod load;
mod long_delays;
mod outages;
mod proxy;
mod sending;
mod server;
mod settle;
mod streams;

use std::{process::ExitCode, time::Duration};

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed};

use server::Server;

/// How long a test may take, but for the fault runs.
const LIMIT: Duration = Duration::from_secs(90);

/// What a test returns.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What tests a server.
type ServerFn = fn(Server) -> BoxFuture<'static, Outcome>;

/// A test of a server: name and function.
type ServerTest = (&'static str, ServerFn);

/// Lists async functions as tests by their own names.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        &[$((stringify!($name), |arg| Box::pin($name(arg)))),+]
    };
}
pub(crate) use tests;

fn main() -> ExitCode {
    if let Some(code) = crash::run_if_asked() {
        return code;
    }
    let arguments = Arguments::from_args();
    let [gcloud, pstest] = server::all();
    let both: [(&str, &[ServerTest]); 7] = [
        ("admin", admin::TESTS),
        ("closing", closing::TESTS),
        ("delays", delays::TESTS),
        ("long_delays", long_delays::TESTS),
        ("outages", outages::TESTS),
        ("sending", sending::TESTS),
        ("settle", settle::TESTS),
    ];
    // Only pstest fails when it is told to.
    let failing: [(&str, &[ServerTest]); 4] = [
        ("long_delays", long_delays::FAILING),
        ("sending", sending::FAILING),
        ("settle", settle::FAILING),
        ("streams", streams::TESTS),
    ];
    let mut trials = Vec::new();
    for (group, tests) in both {
        for (name, test) in tests {
            trials.push(gcloud.trial(group, name, *test, LIMIT));
            trials.push(pstest.trial(group, name, *test, LIMIT));
        }
    }
    for (group, tests) in failing {
        for (name, test) in tests {
            trials.push(pstest.trial(group, name, *test, LIMIT));
        }
    }
    let tested = libtest_mimic::run(&arguments, trials);
    // Each of them wants the machine for itself.
    let alone = Arguments {
        test_threads: Some(1),
        ..arguments
    };
    let loaded = libtest_mimic::run(&alone, load::trials(&gcloud, &pstest));
    if tested.has_failed() || loaded.has_failed() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs a test on a runtime of its own.
fn run(limit: Duration, test: impl Future<Output = Outcome>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match tokio::time::timeout(limit, test).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failed::from(error)),
            Err(_) => Err(Failed::from(format!("not done within {limit:?}"))),
        }
    })
}
