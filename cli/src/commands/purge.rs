use std::process::ExitCode;

use anyhow::bail;

use crate::{Global, output, queue};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queue: a URL or a configured name
    queue: String,
    /// Do it; the messages cannot be brought back
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let queue = global.queue(&args.queue)?;
    if !args.yes {
        bail!(
            "this removes all messages of {} for good; say --yes to do it",
            queue::shown(&queue)
        );
    }
    queue.admin().await?.purge().await?;
    output::note(format_args!("purged {}", queue::shown(&queue)));
    Ok(ExitCode::SUCCESS)
}
