use std::{process::ExitCode, time::Duration};

use anyhow::ensure;
use indicatif::ProgressBar;
use towpath::{Consumer, Delivery, ErrorKind, Message, Producer, Queue};

use crate::{Global, output, queue, signal};

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

#[derive(Default, serde::Serialize)]
struct Report {
    moved: u64,
    /// Sent to the target, but perhaps still in the source: they may arrive twice, with one
    /// idempotency key.
    possibly_twice: u64,
    /// Refused by the target; they stay in the source.
    refused: u64,
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
        copy_all(&args, consumer, &producer, &bar).await
    })
    .await;
    bar.finish_and_clear();
    producer.close().await?;
    let report = report?;
    match global.output {
        output::Form::Json => output::json(&report)?,
        output::Form::Human => output::line(format_args!(
            "moved {}, possibly twice {}, refused and left in place {}",
            report.moved, report.possibly_twice, report.refused
        ))?,
    }
    Ok(if report.refused == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn copy_all(
    args: &Args,
    consumer: &Consumer,
    producer: &Producer,
    bar: &ProgressBar,
) -> anyhow::Result<Report> {
    let ordered = producer.capabilities().ordering;
    let deduplicates = producer.capabilities().dedup_window.is_some();
    let stopped = signal::stopped();
    tokio::pin!(stopped);
    let mut report = Report::default();
    let mut refused = Vec::new();
    while args.limit.is_none_or(|limit| report.moved < limit) {
        let most = args
            .limit
            .map_or(100, |limit| limit - report.moved)
            .min(100);
        let wait = args.idle.unwrap_or(Duration::from_secs(20));
        let batch = tokio::select! {
            batch = consumer.receive_batch(usize::try_from(most).unwrap_or(100), wait) => batch?,
            // Dropping the receive loses nothing; what was received is settled below.
            () = &mut stopped => break,
        };
        if batch.is_empty() && args.idle.is_some() {
            break;
        }
        let copies: Vec<Message> = batch
            .iter()
            .map(|delivery| copy(delivery, ordered, deduplicates))
            .collect();
        let mut copied = Vec::with_capacity(batch.len());
        for (delivery, sent) in batch.into_iter().zip(producer.send_batch(&copies).await) {
            match sent {
                Ok(_) => copied.push(delivery),
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    tracing::warn!(%error, "it is unknown whether the target has the message; it stays in the source");
                    report.possibly_twice += 1;
                }
                Err(error) => {
                    tracing::error!(id = %delivery.envelope().id, %error, "the target refused a message; it stays in the source");
                    report.refused += 1;
                    // Held until the end, so that it does not come round and round.
                    refused.push(delivery);
                }
            }
        }
        for acked in consumer.ack_batch(copied).await {
            report.moved += 1;
            if let Err(error) = acked {
                tracing::warn!(%error, "sent to the target, but not removed from the source");
                report.possibly_twice += 1;
            }
        }
        bar.set_position(report.moved);
    }
    Ok(report)
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
