//! Ctrl-C and SIGTERM, so that a command stops at a clean place.

/// The exit code of a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Resolves at the first Ctrl-C or SIGTERM. A second one ends the program at once: what is not
/// settled then comes back by the end of its lease.
pub(crate) async fn stopped() {
    once().await;
    tokio::spawn(async {
        once().await;
        std::process::exit(i32::from(INTERRUPTED));
    });
}

async fn once() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
