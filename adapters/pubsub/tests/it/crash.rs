//! A consumer in a process of its own, that is killed.

use std::{
    env, io,
    process::{ExitCode, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use towpath_core::{QueueConfig, driver::Backend as _};
use towpath_pubsub::PubSub;

use crate::{
    Outcome,
    server::{nack, receive_one},
};

/// The options of the queue, in the process that is asked.
const QUEUE: &str = "TOWPATH_PUBSUB_CRASH";
/// What that process says when it holds the message.
const HOLDS: &str = "holds";

/// In the process that is asked: receives a message, holds it for a delay, and waits for its end.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let asked = env::var(QUEUE).ok()?;
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(hold_here(&asked)));
    match outcome {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            say(&error.to_string());
            Some(ExitCode::FAILURE)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the asking process reads it")]
fn say(line: &str) {
    println!("{line}");
}

async fn hold_here(asked: &str) -> Outcome {
    let (url, seconds) = asked.split_once(' ').ok_or("a URL and seconds")?;
    let config = QueueConfig::parse(url)?;
    let consumer = PubSub::new().consumer(&config).await?;
    let received = receive_one(&*consumer).await?;
    nack(&*consumer, received, Duration::from_secs(seconds.parse()?)).await?;
    // The client library sends the ack of what a copy replaced within 100 ms.
    tokio::time::sleep(Duration::from_millis(300)).await;
    say(HOLDS);
    std::future::pending().await
}

/// A process that holds a message. Dropping it kills it, too.
pub(crate) struct Holder(Child);

/// Starts a process that receives a message of the queue and nacks it with `delay`.
pub(crate) async fn hold(config: &QueueConfig, delay: Duration) -> io::Result<Holder> {
    let endpoint = config.option("endpoint").unwrap_or_default();
    let mut url = format!("pubsub://{}?endpoint={endpoint}", config.target());
    if let Some(longest) = config.option("nack_delay") {
        url.push_str(&format!("&nack_delay={longest}"));
    }
    let mut child = Command::new(env::current_exe()?)
        .env(QUEUE, format!("{url} {}", delay.as_secs()))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let said = BufReader::new(output).lines().next_line().await?;
    if said.as_deref() == Some(HOLDS) {
        return Ok(Holder(child));
    }
    Err(io::Error::other(format!("it said {said:?}")))
}

impl Holder {
    /// Kills it, as the operating system does that is out of memory.
    pub(crate) async fn kill(mut self) -> io::Result<()> {
        self.0.kill().await
    }
}
