use std::{process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use towpath::{Consumer, Delivery, Message, Producer, Queue, Result, worker::transfer::Transfer};

use crate::{Global, output, queue, signal};
use report::{End, Report};

mod report;
#[cfg(test)]
mod tests;

/// The most messages in one step.
const BATCH: usize = 100;
/// So many messages stay in hand at most: their bodies are in memory.
const MOST_HELD: usize = 10_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queue to move messages from: a URL or a configured name
    #[arg(long, value_name = "QUEUE")]
    from: String,
    /// The queue to move messages to: a URL or a configured name
    #[arg(long, value_name = "QUEUE")]
    to: String,
    /// Stop when no message came for this long; without it, go on until Ctrl-C
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    idle: Option<Duration>,
    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Each message is sent to the target first and acked then, so none is lost wherever it stops.
pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let (from, to) = (global.queue(&args.from)?, global.queue(&args.to)?);
    ensure!(
        !from.config().is_same_queue(to.config()),
        "--from and --to are the same queue"
    );
    let producer = to.producer().await?;
    let bar = output::progress(total(&from, args.limit).await, "moving");
    let report = queue::consuming(from.consumer().await?, async |consumer| {
        let migration = Migration {
            args: &args,
            consumer,
            producer: &producer,
            bar: &bar,
        };
        Ok(migration.run(signal::stopped()).await)
    })
    .await;
    bar.finish_and_clear();
    producer.close().await?;
    let report = report?;
    match global.output {
        output::Form::Json => output::json(&report)?,
        output::Form::Human => output::line(&report)?,
    }
    for advice in report.advice() {
        output::tell(advice);
    }
    // What was moved is told all the same.
    if let End::SourceFailed(error) = report.end {
        return Err(error).context("ended, because the source could not be read; run it again");
    }
    // Ctrl-C is how it ends that was given no other end.
    let has_an_end = args.idle.is_some() || args.limit.is_some();
    Ok(ExitCode::from(report.exit_code(has_an_end)))
}

struct Migration<'a> {
    args: &'a Args,
    consumer: &'a Consumer,
    producer: &'a Producer,
    bar: &'a ProgressBar,
}

impl Migration<'_> {
    async fn run(&self, stopped: impl Future<Output = ()>) -> Report {
        let mut transfer = Transfer::new(self.consumer.clone());
        let mut report = Report::default();
        report.end = self
            .move_all(&mut transfer, &mut report, stopped)
            .await
            .unwrap_or_else(End::SourceFailed);
        for correction in transfer.finish().await {
            let id = &correction.envelope.id;
            if let Err(error) = &correction.removed {
                tracing::warn!(%id, %error, "it came again after it was moved, and was not removed from the source");
            }
            report.correct(correction.removed.is_ok());
        }
        report
    }

    /// Moves messages until there is a reason to end. An error is one of the source.
    async fn move_all(
        &self,
        transfer: &mut Transfer,
        report: &mut Report,
        stopped: impl Future<Output = ()>,
    ) -> Result<End> {
        let accepts = self.producer.capabilities();
        let (ordered, deduplicates) = (accepts.ordering, accepts.dedup_window.is_some());
        let wait = self.args.idle.unwrap_or(Duration::from_secs(20));
        tokio::pin!(stopped);
        loop {
            let left = self
                .args
                .limit
                .map_or(u64::MAX, |limit| limit.saturating_sub(report.taken()));
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let room = MOST_HELD.saturating_sub(transfer.in_hand());
            if left == 0 {
                return Ok(End::Limit);
            }
            if room == 0 {
                return Ok(End::Held);
            }
            let batch = tokio::select! {
                biased;
                // Dropping the receive loses nothing; what was received is settled below.
                () = &mut stopped => return Ok(End::Stopped),
                batch = transfer.receive(BATCH.min(left).min(room), wait) => batch?,
            };
            if batch.is_empty() && self.args.idle.is_some() {
                return Ok(End::Idle);
            }
            let copies = batch
                .into_iter()
                .map(|delivery| {
                    let copy = copy(&delivery, ordered, deduplicates);
                    (delivery, copy)
                })
                .collect();
            let fates = transfer.send(self.producer, copies).await;
            let failed = report.count(fates);
            self.bar.set_position(report.moved);
            if let Some(error) = failed {
                return Ok(End::TargetFailed(error));
            }
        }
    }
}

/// How many messages there are to move, where the queue can tell.
async fn total(from: &Queue, limit: Option<u64>) -> Option<u64> {
    let depth = from.admin().await.ok()?.depth().await.ok()?;
    Some(depth.total().min(limit.unwrap_or(u64::MAX)))
}

/// The message as the target can carry it: the same identity, and what the target supports.
fn copy(delivery: &Delivery, ordered: bool, deduplicates: bool) -> Message {
    let message = &delivery.envelope().message;
    let mut copy = Message::new(message.body().clone())
        .with_idempotency_key(message.idempotency_key())
        .with_attributes(message.attributes().clone())
        .with_failure(message.failure().cloned());
    if ordered && let Some(key) = message.ordering_key() {
        copy = copy.with_ordering_key(key);
    }
    if deduplicates {
        copy = copy.with_dedup_id(message.idempotency_key().to_string());
    }
    copy
}
