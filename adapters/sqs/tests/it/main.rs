//! What is particular to SQS: against the servers that the environment names, and against a
//! scripted one for answers that no real server can be made to give.
//!
//! Tests of a server that is not there are shown as ignored, and fail under
//! `CONFORMANCE_REQUIRED=1`.

mod admin;
mod failures;
mod faults;
mod fifo;
mod messages;
mod opening;
mod probe;
mod proxy;
mod requests;
mod script;
mod server;
mod settle;

use std::{process::ExitCode, time::Duration};

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};

use server::Server;

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(90);

/// What a test returns.
type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What tests a server.
type ServerFn = fn(Server) -> BoxFuture<'static, Outcome>;

/// A test of a server: name and function.
type ServerTest = (&'static str, ServerFn);

/// A test without a server: name and function.
type LocalTest = (&'static str, fn() -> BoxFuture<'static, Outcome>);

/// Lists async functions as tests by their own names.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        &[$((stringify!($name), |arg| Box::pin($name(arg)))),+]
    };
}
macro_rules! local_tests {
    ($($name:ident),+ $(,)?) => {
        &[$((stringify!($name), || Box::pin($name()))),+]
    };
}
pub(crate) use {local_tests, tests};

fn main() -> ExitCode {
    if let Some(code) = probe::run_if_asked() {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let groups: [(&str, &[ServerTest]); 6] = [
        ("messages", messages::TESTS),
        ("fifo", fifo::TESTS),
        ("settle", settle::TESTS),
        ("admin", admin::TESTS),
        ("opening", opening::SERVER_TESTS),
        ("requests", requests::TESTS),
    ];
    for server in server::all() {
        for (group, tests) in groups {
            for (name, test) in tests {
                trials.push(server.trial(group, name, *test));
            }
        }
    }
    let groups: [(&str, &[LocalTest]); 2] =
        [("failures", failures::TESTS), ("opening", opening::TESTS)];
    for (group, tests) in groups {
        for (name, test) in tests {
            trials.push(Trial::test(format!("{group}::{name}"), move || run(test())));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // These load the machine, so each runs alone, and after the others.
    let alone = Arguments {
        test_threads: Some(1),
        ..arguments
    };
    let faults = libtest_mimic::run(&alone, faults::trials());
    if conclusion.has_failed() || faults.has_failed() {
        return ExitCode::from(101);
    }
    ExitCode::SUCCESS
}

/// Runs a test on a runtime of its own.
fn run(test: impl Future<Output = Outcome>) -> Result<(), Failed> {
    run_within(LIMIT, test)
}

/// As [`run`], for a test that may take this long.
fn run_within(limit: Duration, test: impl Future<Output = Outcome>) -> Result<(), Failed> {
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
