//! Opening a queue in a process of its own, with an environment of its own.

use std::{
    env,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use towpath_core::{Registry, Result};
use towpath_sqs::Sqs;

/// Holds the queue's URL in the process that is asked.
const URL: &str = "TOWPATH_SQS_PROBE";

/// In the process that is asked: opens the queue and prints how that went.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let url = env::var(URL).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let opened: Result<()> = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let queue = Registry::new().with(Sqs::new()).open(&url)?;
            queue.producer().await.map(drop)
        }),
        Err(_) => return Some(ExitCode::FAILURE),
    };
    let line = match opened {
        Ok(()) => "opened".to_owned(),
        Err(error) => error.to_string(),
    };
    #[expect(clippy::print_stdout, reason = "the asking process reads it")]
    {
        println!("{line}");
    }
    Some(ExitCode::SUCCESS)
}

/// Opens the queue at `url` in a process with these variables and no others; returns what it said
/// and how long it took.
pub(crate) async fn open(
    url: &str,
    variables: &[(&str, &str)],
) -> std::io::Result<(String, Duration)> {
    let mut command = Command::new(env::current_exe()?);
    command
        .env_clear()
        .env(URL, url)
        // Never asks the network who we are.
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied());
    let start = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((said, start.elapsed()))
}
