//! The spool of a configuration: opened at the start, sent on from until the receiver is closed.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use towpath_core::{Error, ErrorKind, Producer, Result};

use crate::{
    config::SpoolSettings,
    spool::{Spool, SpoolError},
};

/// Opens the file, which blocks, off the runtime's threads.
pub(super) async fn open(settings: &SpoolSettings) -> Result<Spool> {
    let (path, options) = (settings.path.clone(), settings.options());
    let opened = tokio::task::spawn_blocking(move || Spool::open(path, options)).await;
    opened
        .unwrap_or(Err(SpoolError::Ended))
        .map_err(|error| invalid(&format!("spool.path: {error}")).with_source(error))
}

/// The error of a configuration that does not fit what is open.
pub(super) fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, what)
}

/// Sends on what is in a spool. Dropping it ends that, after the batches that are on their way.
#[derive(Debug)]
pub(super) struct Draining {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Draining {
    pub(super) fn start(
        spool: Spool,
        lookup: impl Fn(&str) -> Option<Producer> + Send + Sync + 'static,
    ) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { spool.run(lookup, stopped).await });
        Self {
            stop,
            task: Some(task),
        }
    }

    /// Stops, and waits until it has ended.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "sending on from the spool ended with a panic; what is left is sent on after the next start");
        }
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
