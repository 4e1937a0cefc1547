//! Developer tasks of the towpath workspace, run as `cargo xtask ...`.
//!
//! Everything a task installs or writes stays in `.tools/` in the project root, which git ignores;
//! removing that folder undoes all of it.
#![allow(
    clippy::print_stdout,
    reason = "a command-line program answers on standard output"
)]

/// Prints a line for the reader to standard error. A reader who has gone is no reason to panic:
/// what was started has still to be stopped.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($part)*);
    }};
}

mod ci;
mod conformance;
mod emulators;
mod http;
mod port;
mod process;
mod signals;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer tasks of the towpath workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start, stop or show the local servers that speak the clouds' protocols
    #[command(subcommand)]
    Emulators(emulators::Command),
    /// Run all tests against servers that are started for them and stopped again
    Test(test::Options),
    /// Run the conformance tests on every backend and local server, and write the matrix
    Conformance(conformance::Options),
    /// Check all that has to hold: fmt, clippy, docs, features, test
    Ci(ci::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = signals::install().and_then(|()| match cli.task {
        Task::Emulators(command) => emulators::run(command),
        Task::Test(options) => test::run(&options),
        Task::Conformance(options) => conformance::run(&options),
        Task::Ci(options) => ci::run(&options),
    });
    match done {
        Ok(code) => code,
        Err(_) if signals::received() => {
            say!("interrupted");
            ExitCode::from(signals::INTERRUPTED)
        }
        Err(error) => {
            say!("error: {error}");
            for cause in error.chain().skip(1) {
                say!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
