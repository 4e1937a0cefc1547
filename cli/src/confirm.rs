//! Asking before something is done that cannot be taken back.

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail, ensure};

use crate::signal;

/// Goes on when `yes` was said, else asks on a terminal. Elsewhere it fails, and names `--yes`.
///
/// `question` says what is to happen, for instance `remove 3 dead letters of orders-dlq for good?`;
/// `kept` what holds when the answer is no, for instance `nothing was removed`.
pub(crate) async fn ask(question: &str, kept: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("{question} {kept}; say --yes to do it without being asked");
    }
    {
        let mut err = std::io::stderr().lock();
        write!(err, "{question} [y/N] ")?;
        err.flush()?;
    }
    let (sender, answer) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime would wait for a blocking task when the program ends.
    std::thread::spawn(move || {
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer).map(|_| answer);
        let _ = sender.send(read);
    });
    let answer = tokio::select! {
        answer = answer => answer?.context("cannot read the answer")?,
        () = signal::stopped() => String::new(),
    };
    let is_yes = ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str());
    ensure!(is_yes, "{kept}");
    Ok(())
}
