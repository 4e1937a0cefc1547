//! A process for the comparison, and one for each run of a contender.

use std::{
    env,
    process::{ExitCode, Stdio},
};

use tokio::process::Command;

use crate::{
    Error,
    load::{Figures, Load},
};

/// Runs a bench to its end, on two threads.
pub fn main(bench: impl Future<Output = Result<(), Error>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Error::from)
        .and_then(|runtime| runtime.block_on(bench));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what [`contend`] reads.
///
/// # Errors
///
/// None in practice: figures are plain numbers.
pub fn report(figures: &Figures) -> Result<(), Error> {
    println!("{}", serde_json::to_string(figures)?);
    Ok(())
}

/// Runs the contender of this name in a process of its own: this program again, with the load in its
/// options.
///
/// # Errors
///
/// When that process fails; it says why itself.
pub async fn contend(
    contender: &str,
    load: &Load,
    environment: &[(&str, &str)],
) -> Result<Figures, Error> {
    let output = Command::new(env::current_exe()?)
        .args(["--only", contender])
        .args(["--messages", &load.messages.to_string()])
        .args(["--tasks", &load.tasks.to_string()])
        .args(["--body", &load.body.to_string()])
        .args(["--endpoint", &load.endpoint])
        .args(["--queue", &load.queue])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return Err(format!("{contender} failed: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
