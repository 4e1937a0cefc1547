//! Developer tasks of the towpath workspace, run as `cargo xtask ...`.
//!
//! Everything a task installs or writes stays in `.tools/` in the project root, which git ignores;
//! removing that folder undoes all of it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program talks on its standard streams"
)]

mod emulators;
mod http;
mod port;
mod process;
mod signals;
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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = signals::install().and_then(|()| match cli.task {
        Task::Emulators(command) => emulators::run(command),
    });
    match done {
        Ok(code) => code,
        Err(_) if signals::received() => {
            eprintln!("interrupted");
            ExitCode::from(signals::INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
