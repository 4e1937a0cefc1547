use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use towpath::{Consumer, Delivery, Queue};

use super::receive::Shown;
use crate::{Global, output, queue, signal};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List dead letters with their reasons; they stay where they are
    List(Selection),
    /// Show one dead letter in full
    Show {
        #[command(flatten)]
        selection: Selection,
    },
    /// Remove dead letters for good
    Discard {
        #[command(flatten)]
        selection: Selection,
        /// Do it; without it the dead letters are only listed
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters.
#[derive(clap::Args)]
struct Selection {
    /// The queue whose dead letters are meant (a URL or a configured name with `dead_letter`), or
    /// the dead-letter queue itself
    queue: String,
    /// Only those whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those of this class, e.g. attempts_exhausted, permanent, undecodable
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Only those that failed at least this long ago, e.g. 1h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only those with this attribute
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::send::pair)]
    attribute: Vec<(String, String)>,
    /// Only the one with this idempotency key or message id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// How long to wait for more before the queue counts as read to its end
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    idle: Duration,
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(selection) => list(global, &selection).await,
        Command::Show { selection } => show(global, &selection).await,
        Command::Discard { selection, yes } => discard(global, &selection, yes).await,
    }
}

impl Selection {
    fn dead_letter_queue(&self, global: &Global) -> anyhow::Result<Queue> {
        let queue = global.queue(&self.queue)?;
        Ok(queue.dead_letter()?.unwrap_or(queue))
    }

    fn matches(&self, delivery: &Delivery) -> bool {
        let envelope = delivery.envelope();
        let failure = envelope.message.failure();
        let has_reason = |text: &String| failure.is_some_and(|f| f.reason.contains(text.as_str()));
        let has_class = |class: &String| {
            failure
                .is_some_and(|f| serde_json::to_value(&f.class).is_ok_and(|c| c == class.as_str()))
        };
        let is_old = |age: Duration| {
            let failed =
                failure.map(|f| SystemTime::UNIX_EPOCH + Duration::from_millis(f.failed_ms));
            failed.is_some_and(|at| at.elapsed().unwrap_or_default() >= age)
        };
        let is_id = |id: &String| {
            *id == envelope.id.to_string() || *id == envelope.message.idempotency_key().to_string()
        };
        self.reason.as_ref().is_none_or(has_reason)
            && self.class.as_ref().is_none_or(has_class)
            && self.older_than.is_none_or(is_old)
            && self.id.as_ref().is_none_or(is_id)
            && self
                .attribute
                .iter()
                .all(|(name, value)| delivery.attributes().get(name) == Some(value.as_str()))
    }

    /// Leases what is in the queue, up to its end, and keeps what matches. What does not match is
    /// held until then too, so that nothing is seen twice, and given back.
    async fn collect(&self, consumer: &Consumer) -> anyhow::Result<Vec<Delivery>> {
        let stopped = signal::stopped();
        tokio::pin!(stopped);
        let (mut matching, mut other) = (Vec::new(), Vec::new());
        while matching.len() < self.limit {
            let batch = tokio::select! {
                batch = consumer.receive_batch(100, self.idle) => batch?,
                // Dropping the receive loses nothing; see its cancel safety.
                () = &mut stopped => break,
            };
            if batch.is_empty() {
                break;
            }
            for delivery in batch {
                if self.matches(&delivery) && matching.len() < self.limit {
                    matching.push(delivery);
                } else {
                    other.push(delivery);
                }
            }
        }
        Ok(matching)
    }
}

async fn list(global: &Global, selection: &Selection) -> anyhow::Result<ExitCode> {
    let queue = selection.dead_letter_queue(global)?;
    let consumer = queue.consumer().await?;
    let found = selection.collect(&consumer).await?;
    print(global, &found)?;
    output::note(format_args!(
        "{} dead letters in {}",
        found.len(),
        queue::shown(&queue)
    ));
    drop(found);
    consumer.close().await?;
    Ok(ExitCode::SUCCESS)
}

fn print(global: &Global, found: &[Delivery]) -> anyhow::Result<()> {
    if global.output == output::Form::Json {
        return found
            .iter()
            .try_for_each(|delivery| output::json(&Shown::new(delivery)));
    }
    let rows: Vec<_> = found
        .iter()
        .map(|delivery| {
            let message = &delivery.envelope().message;
            let failure = message.failure();
            let failed =
                failure.map(|f| SystemTime::UNIX_EPOCH + Duration::from_millis(f.failed_ms));
            [
                message.idempotency_key().to_string(),
                failed.map_or("-".to_owned(), |at| {
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

async fn show(global: &Global, selection: &Selection) -> anyhow::Result<ExitCode> {
    selection.id.as_ref().context("say which with --id")?;
    let consumer = selection.dead_letter_queue(global)?.consumer().await?;
    let found = selection.collect(&consumer).await?;
    let Some(delivery) = found.first() else {
        bail!("there is no such dead letter; `towpath dlq list` shows what there is");
    };
    let shown = Shown::new(delivery);
    output::line(match global.output {
        output::Form::Json => serde_json::to_string(&shown)?,
        output::Form::Human => serde_json::to_string_pretty(&shown)?,
    })?;
    drop(found);
    consumer.close().await?;
    Ok(ExitCode::SUCCESS)
}

async fn discard(global: &Global, selection: &Selection, yes: bool) -> anyhow::Result<ExitCode> {
    let consumer = selection.dead_letter_queue(global)?.consumer().await?;
    let found = selection.collect(&consumer).await?;
    print(global, &found)?;
    if !yes {
        output::line(format_args!(
            "{} dead letters would be removed for good; say --yes to do it",
            found.len()
        ))?;
        drop(found);
        consumer.close().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = 0;
    for result in consumer.ack_batch(found).await {
        if let Err(error) = result {
            tracing::error!(%error, "a dead letter could not be removed");
            failed += 1;
        }
    }
    consumer.close().await?;
    anyhow::ensure!(
        failed == 0,
        "{failed} dead letters could not be removed; they stay in the queue"
    );
    Ok(ExitCode::SUCCESS)
}
