//! `cargo xtask test`: every test of the workspace, against servers of its own.

mod outcome;

use std::io::{Read, Write};
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::emulators::{self, Instance, Server};
use crate::tools::Tools;
use crate::{process, workspace};
use outcome::Outcome;

/// Tells tests that a server or a tool which they cannot find is a failure, not a reason to pass.
const REQUIRED: &str = "CONFORMANCE_REQUIRED";

/// What `cargo xtask test` takes.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Test only this package; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    only_package: Vec<String>,
    /// What every test program is started with: a part of test names, --nocapture and so on
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Starts the servers, runs the tests and stops the servers, also when the tests fail or a signal
/// ends them. The exit code is that of the tests.
///
/// # Errors
///
/// When the servers cannot be started or stopped, or the tests cannot be run at all.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let tools = Tools::open()?;
    let instance = Instance::own(&tools)?;
    let servers = Server::available(Server::all())?;
    let left_out = Server::leaving_out(Server::all(), &servers);
    let tested = instance.up(&tools, &servers).and_then(|running| {
        let mut command = command(options, left_out);
        say!("running {}", workspace::cargo_line(&command));
        command
            .env(REQUIRED, "1")
            .envs(emulators::environment(&running));
        test(&mut command)
    });
    let passed = matches!(&tested, Ok((code, _)) if *code == 0);
    let ended = instance.end(&tools, passed);
    if let (Err(_), Err(error)) = (&tested, &ended) {
        say!("warning: {error:#}");
    }
    let (code, outcome) = tested?;
    println!("\n{outcome}; {:.0} s in all", begun.elapsed().as_secs_f64());
    ended?;
    Ok(ExitCode::from(code))
}

/// The command that runs the tests.
fn command(options: &Options, left_out: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command.arg("test");
    if options.only_package.is_empty() {
        command.arg("--workspace");
    }
    for package in &options.only_package {
        command.args(["--package", package]);
    }
    // One report of everything that fails is worth more than an early end.
    command.arg("--no-fail-fast");
    if !options.arguments.is_empty() || !left_out.is_empty() {
        command.arg("--").args(left_out).args(&options.arguments);
    }
    command
}

/// Runs the tests, passes their output on and counts their results.
fn test(command: &mut Command) -> Result<(u8, Outcome)> {
    let mut child = process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))
        .context("starting the tests")?;
    let output = child.stdout.take().context("the tests have no output")?;
    let reader = thread::spawn(move || pass_on(output));
    let status = process::wait(&mut child);
    let outcome = reader
        .join()
        .map_err(|_| anyhow!("reading the tests' output failed"))??;
    let code = status?
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Ok((code, outcome))
}

/// Copies the tests' output to standard output as it comes, and counts the results in it.
fn pass_on(mut output: ChildStdout) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut line = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let count = output
            .read(&mut buffer)
            .context("reading the tests' output")?;
        if count == 0 {
            outcome.read(&String::from_utf8_lossy(&line));
            return Ok(outcome);
        }
        let part = &buffer[..count];
        let mut out = std::io::stdout().lock();
        out.write_all(part)
            .and_then(|()| out.flush())
            .context("writing the tests' output")?;
        for piece in part.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                outcome.read(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(options: &Options) -> String {
        workspace::cargo_line(&command(options, &[]))
    }

    #[test]
    fn everything_is_tested_unless_told_otherwise() {
        assert_eq!(
            arguments(&Options::default()),
            "cargo test --workspace --no-fail-fast"
        );
    }

    #[test]
    fn without_google_s_emulator_its_tests_are_left_out() {
        let some: Vec<Server> = Server::all()
            .iter()
            .copied()
            .filter(|server| *server != Server::Google)
            .collect();
        let left_out = Server::leaving_out(Server::all(), &some);
        assert_eq!(
            workspace::cargo_line(&command(&Options::default(), left_out)),
            "cargo test --workspace --no-fail-fast -- --skip gcloud"
        );
        assert!(Server::leaving_out(Server::all(), Server::all()).is_empty());
        assert!(Server::leaving_out(&some, &some).is_empty());
    }

    #[test]
    fn packages_and_arguments_are_passed_on() {
        let options = Options {
            only_package: vec!["towpath-core".to_owned(), "towpath-memory".to_owned()],
            arguments: vec!["lease".to_owned(), "--nocapture".to_owned()],
        };
        assert_eq!(
            arguments(&options),
            "cargo test --package towpath-core --package towpath-memory --no-fail-fast \
             -- lease --nocapture"
        );
    }
}
