//! The tool as a user runs it.
//!
//! Tests of a server that is not there are shown as ignored, and fail under
//! `CONFORMANCE_REQUIRED=1`.

mod bench;
mod config;
mod conformance;
mod dead_letters;
mod edit;
mod local;
mod messages;
mod migrate;
mod queues;
mod redrive;
mod server;
mod session;
mod tool;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use server::Server;

/// What a test returns.
type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A test without a server: name and function.
type LocalTest = (&'static str, fn() -> Outcome);

/// A test of one server: name and function.
type ServerTest = (&'static str, fn(&Server) -> Outcome);

/// A test of a server of each cloud, SQS first: name and function.
type CloudsTest = (&'static str, fn(&Server, &Server) -> Outcome);

/// Lists functions as tests by their own names.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        &[$((stringify!($name), $name)),+]
    };
}
pub(crate) use tests;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let groups: [(&str, &[LocalTest]); 4] = [
        ("local", local::TESTS),
        ("config", config::TESTS),
        ("conformance", conformance::TESTS),
        ("session", session::TESTS),
    ];
    for (group, tests) in groups {
        for (name, test) in tests {
            trials.push(Trial::test(format!("{group}::{name}"), move || {
                test().map_err(|error| error.to_string().into())
            }));
        }
    }
    let groups: [(&str, &[ServerTest]); 7] = [
        ("messages", messages::TESTS),
        ("queues", queues::TESTS),
        ("dead_letters", dead_letters::TESTS),
        ("redrive", redrive::TESTS),
        ("edit", edit::TESTS),
        ("bench", bench::TESTS),
        ("conformance", conformance::SERVER_TESTS),
    ];
    for server in server::all() {
        for (group, tests) in groups {
            for (name, test) in tests {
                trials.push(server.trial(group, name, *test));
            }
        }
    }
    let groups: [(&str, &[CloudsTest]); 2] = [
        ("migrate", migrate::TESTS),
        ("config", config::CLOUDS_TESTS),
    ];
    for (sqs, pubsub) in server::pairs() {
        for (group, tests) in groups {
            for (name, test) in tests {
                trials.push(server::trial_of_two(&sqs, &pubsub, group, name, *test));
            }
        }
    }
    for (name, test) in session::SERVER_TESTS {
        trials.push(server::fauxqs().trial("session", name, *test));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
