//! When to stop.

/// Resolves when the process is asked to stop: Ctrl-C, and SIGTERM on Unix.
///
/// The handlers are installed when this is called, so a signal that comes before the future is
/// first polled is not missed. A second signal has no effect of its own; the worker's drain has a
/// deadline.
///
/// # Panics
///
/// Outside a Tokio runtime with I/O enabled.
///
/// # Errors
///
/// When the system refuses to install the handlers.
///
/// # Cancel safety
///
/// Cancel safe.
pub fn shutdown_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            // Both only wait for an event.
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            tracing::info!(signal = name, "asked to stop");
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async move {
            if let Err(error) = tokio::signal::ctrl_c().await {
                tracing::error!(%error, "Ctrl-C cannot be heard; stop the process another way");
                std::future::pending::<()>().await;
            }
            tracing::info!(signal = "Ctrl-C", "asked to stop");
        })
    }
}
