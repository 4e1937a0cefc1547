//! `dlq list` and `dlq show`: reading only.

use std::process::ExitCode;

use towpath::Delivery;

use super::selection::{self, Place, Selection};
use crate::{Global, commands::receive::Shown, output, queue};

#[derive(clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

#[derive(clap::Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    place: Place,
    /// Its idempotency key or message id, as `dlq list` shows it
    id: String,
}

pub(super) async fn list(global: &Global, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let dead = args.place.dead_letters(global)?;
    let count = queue::consuming(dead.consumer().await?, async |consumer| {
        let found = args
            .place
            .collect(consumer, &args.selection, args.limit)
            .await?;
        print(global, &found)?;
        Ok(found.len())
    });
    output::note(format_args!(
        "{} dead letters in {}",
        count.await?,
        queue::shown(&dead)
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(global: &Global, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let consumer = args.place.dead_letters(global)?.consumer().await?;
    queue::consuming(consumer, async |consumer| {
        let delivery = args.place.one(consumer, &args.id).await?;
        let shown = Shown::new(delivery.envelope());
        output::line(match global.output {
            output::Form::Json => serde_json::to_string(&shown)?,
            output::Form::Human => serde_json::to_string_pretty(&shown)?,
        })
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints dead letters, as a table or as lines of JSON.
pub(super) fn print(global: &Global, found: &[Delivery]) -> anyhow::Result<()> {
    if global.output == output::Form::Json {
        return found
            .iter()
            .try_for_each(|delivery| output::json(&Shown::new(delivery.envelope())));
    }
    let rows: Vec<_> = found
        .iter()
        .map(|delivery| {
            let envelope = delivery.envelope();
            let failure = envelope.message.failure();
            [
                envelope.message.idempotency_key().to_string(),
                selection::failed_at(envelope).map_or("-".to_owned(), |at| {
                    humantime::format_rfc3339_seconds(at).to_string()
                }),
                failure.map_or("-".to_owned(), |f| f.attempts.to_string()),
                failure.map_or("-".to_owned(), |f| f.queue.clone()),
                failure.map_or("no record: parked by the broker".to_owned(), |f| {
                    output::preview(f.reason.as_bytes(), 80)
                }),
            ]
        })
        .collect();
    output::table(
        ["IDEMPOTENCY KEY", "FAILED", "ATTEMPTS", "QUEUE", "REASON"],
        &rows,
    )
}
