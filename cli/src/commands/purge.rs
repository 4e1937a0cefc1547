use std::process::ExitCode;

use crate::{Global, confirm, output, queue};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queue: a URL or a configured name
    queue: String,
    /// Do not ask; the messages cannot be brought back
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let queue = global.queue(&args.queue)?;
    let question = format!(
        "this removes all messages of {} for good, leased ones too.",
        queue::shown(&queue)
    );
    confirm::ask(&question, "nothing was removed", args.yes).await?;
    queue.admin().await?.purge().await?;
    match global.output {
        output::Form::Json => output::json(&serde_json::json!({ "purged": queue::shown(&queue) }))?,
        output::Form::Human => output::note(format_args!("purged {}", queue::shown(&queue))),
    }
    Ok(ExitCode::SUCCESS)
}
