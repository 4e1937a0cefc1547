//! `dlq discard`.

use std::process::ExitCode;

use towpath::{Consumer, Delivery};

use super::{
    look,
    selection::{Place, Selection},
};
use crate::{Global, confirm, output, queue};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// Do not ask; without a terminal, nothing is removed unless this is said
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let dead = args.place.dead_letters(global)?;
    queue::consuming(dead.consumer().await?, async |consumer| {
        let found = args
            .place
            .collect(consumer, &args.selection, args.limit)
            .await?;
        look::print(global, &found)?;
        if found.is_empty() {
            output::note("there is nothing to remove");
            return Ok(());
        }
        let question = format!(
            "{} dead letters of {} are to be removed for good.",
            found.len(),
            queue::shown(&dead)
        );
        confirm::ask(&question, "nothing was removed", args.yes).await?;
        remove(consumer, found).await
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(consumer: &Consumer, letters: Vec<Delivery>) -> anyhow::Result<()> {
    let (mut removed, mut failed) = (0, 0);
    for result in consumer.ack_batch(letters).await {
        match result {
            Ok(_) => removed += 1,
            Err(error) => {
                tracing::error!(%error, "a dead letter could not be removed");
                failed += 1;
            }
        }
    }
    output::note(format_args!("{removed} dead letters removed"));
    anyhow::ensure!(
        failed == 0,
        "{failed} dead letters could not be removed; they stay in the queue"
    );
    Ok(())
}
