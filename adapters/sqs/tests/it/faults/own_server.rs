//! A server of the test's own, which can be killed, and has its messages again when it is started
//! again.

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::Outcome;

/// Holds the words of the command that starts fauxqs, as a JSON list; a port and a folder are added
/// to them.
pub(super) const COMMAND: &str = "TOWPATH_FAUXQS_COMMAND";

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// The command's words, where the environment has them.
pub(super) fn command() -> Result<Option<Vec<String>>, String> {
    match env::var(COMMAND) {
        Ok(words) if !words.is_empty() => serde_json::from_str(&words)
            .map(Some)
            .map_err(|error| format!("{COMMAND} is no JSON list of words: {error}")),
        _ => Ok(None),
    }
}

/// It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct OwnServer {
    command: Vec<String>,
    folder: TempDir,
    process: Child,
    port: u16,
}

impl OwnServer {
    pub(super) async fn start(
        command: Vec<String>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let folder = tempfile::tempdir()?;
        let (process, port) = launch(&command, &folder).await?;
        Ok(Self {
            command,
            folder,
            process,
            port,
        })
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it on the spot, whatever it is doing.
    pub(super) async fn kill(&mut self) -> Outcome {
        self.process.kill().await?;
        Ok(())
    }

    /// Starts it again after it was killed.
    pub(super) async fn restart(&mut self) -> Outcome {
        (self.process, self.port) = launch(&self.command, &self.folder).await?;
        Ok(())
    }
}

async fn launch(
    command: &[String],
    folder: &TempDir,
) -> Result<(Child, u16), Box<dyn std::error::Error + Send + Sync>> {
    let [program, arguments @ ..] = command else {
        return Err(format!("{COMMAND} has no words").into());
    };
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut process = Command::new(program)
        .args(arguments)
        .arg(port.to_string())
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let deadline = Instant::now() + START;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .is_err()
    {
        if let Some(status) = process.try_wait()? {
            return Err(format!("the server ended ({status})").into());
        }
        if Instant::now() > deadline {
            return Err(format!("the server does not answer after {START:?}").into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok((process, port))
}
