//! Ctrl-C and SIGTERM, noted so that what was started can be stopped before this program ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The exit code of a program that was interrupted: 128 + SIGINT, as shells count.
pub(crate) const INTERRUPTED: u8 = 130;

/// The number of the last signal, 0 before the first.
static LAST: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Notes signals from now on, instead of ending the program.
///
/// # Errors
///
/// When the system refuses the handlers.
pub(crate) fn install() -> Result<()> {
    let last = LAST.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let number = usize::try_from(signal)?;
        signal_hook::flag::register_usize(signal, Arc::clone(last), number)
            .with_context(|| format!("handling signal {signal}"))?;
    }
    Ok(())
}

/// Whether a signal has asked this program to end.
pub(crate) fn received() -> bool {
    LAST.get()
        .is_some_and(|last| last.load(Ordering::SeqCst) != 0)
}

/// An error as soon as a signal has asked this program to end.
///
/// # Errors
///
/// When a signal has come.
pub(crate) fn check() -> Result<()> {
    if received() {
        bail!("interrupted");
    }
    Ok(())
}
