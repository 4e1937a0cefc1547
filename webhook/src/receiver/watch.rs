//! Taking over a configuration file when it changes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use towpath_core::{Error, ErrorKind, Result};

use super::Receiver;
use crate::Config;

/// How often files are read, unless said otherwise.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);

/// Watches a configuration file for a [`Receiver`]. Dropping it stops the watching.
#[derive(Debug)]
#[must_use = "dropping it stops the watching"]
pub struct Watch(JoinHandle<()>);

impl Receiver {
    /// Takes over the configuration file at `path` whenever its content, or that of a secret or
    /// schema that it refers to, changes, and on SIGHUP. Looks every 2 seconds.
    ///
    /// A file with a mistake changes nothing; the log says what is wrong, and `/readyz` says when.
    /// The file is taken to be the one that the receiver was started with.
    ///
    /// # Errors
    ///
    /// When SIGHUP cannot be caught.
    pub fn watch(&self, path: impl Into<PathBuf>) -> Result<Watch> {
        self.watch_every(path, DEFAULT_INTERVAL)
    }

    /// As [`watch`](Self::watch), looking every `interval`, at least every millisecond.
    ///
    /// # Errors
    ///
    /// As [`watch`](Self::watch).
    pub fn watch_every(&self, path: impl Into<PathBuf>, interval: Duration) -> Result<Watch> {
        let path = path.into();
        let receiver = self.clone();
        let hangups = Hangups::new().map_err(|error| {
            let message = format!("SIGHUP cannot be caught: {error}");
            Error::new(ErrorKind::Unknown, message).with_source(error)
        })?;
        let interval = interval.max(Duration::from_millis(1));
        Ok(Watch(tokio::spawn(watch(
            receiver, path, interval, hangups,
        ))))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(receiver: Receiver, path: PathBuf, interval: Duration, mut hangups: Hangups) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut files = receiver.table().files().to_vec();
    // What was seen at the start is not known: the first look takes over whatever is there.
    let mut seen = None;
    loop {
        // Both only wait: nothing is lost when the other one is first.
        let is_asked = tokio::select! {
            () = hangups.next() => true,
            _ = ticks.tick() => false,
        };
        // Before the reading, so that a change in between is seen the next time.
        let now = fingerprint(&path, &files).await;
        if now.is_some() && now == seen && !is_asked {
            continue;
        }
        seen = now;
        let config = match read(&path).await {
            Ok(config) => config,
            Err(error) => {
                receiver.note_rejected(error.message());
                kept(&path, &error);
                continue;
            }
        };
        let others = config.files();
        if others != files {
            // Not part of `now`: look again.
            (files, seen) = (others, None);
        }
        let sources = config.sources().count();
        match receiver.reload(config).await {
            Ok(()) => {
                tracing::info!(path = %path.display(), sources, "took over the configuration")
            }
            Err(error) => kept(&path, &error),
        }
    }
}

fn kept(path: &Path, error: &Error) {
    let why = error.message();
    tracing::error!(path = %path.display(), why, "kept the old configuration");
}

async fn read(path: &Path) -> Result<Config> {
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || Config::read(file)).await;
    read.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Unknown, "reading was stopped").with_source(error))
    })
}

/// A hash of all files: times of change are too coarse, and lie where files are swapped by links.
async fn fingerprint(path: &Path, others: &[PathBuf]) -> Option<[u8; 32]> {
    let mut files = vec![path.to_owned()];
    files.extend_from_slice(others);
    let hash = tokio::task::spawn_blocking(move || {
        let mut hash = Sha256::new();
        for file in files {
            // A file that cannot be read is one that changes when it can.
            let content = fs::read(file).unwrap_or_default();
            hash.update(content.len().to_be_bytes());
            hash.update(content);
        }
        hash.finalize().into()
    });
    hash.await.ok()
}

/// SIGHUP, where there is one.
struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}
