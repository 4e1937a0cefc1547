use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;
use tokio::task::JoinSet;
use towpath::{Consumer, Delivery, Message, Producer, Queue, Registry};

use crate::{Global, output, queue, signal};

mod counted;
mod price;

use counted::{Calls, Counted};
use price::{Known, Price, Requests};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queue: a URL or a configured name; it should be empty and used by nobody else
    #[arg(required_unless_present = "url")]
    queue: Option<String>,
    /// The queue, as an option
    #[arg(long, value_name = "URL", conflicts_with = "queue")]
    url: Option<String>,
    /// How many messages
    #[arg(long, short, default_value_t = 1_000, value_name = "N")]
    messages: usize,
    /// The size of a body in bytes
    #[arg(long, default_value_t = 256, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16..=700_000))]
    size: u32,
    /// How many messages are sent, received and acked in one call
    #[arg(long, default_value_t = 10, value_name = "N")]
    batch: usize,
    /// How many batches are under way at once
    #[arg(long, default_value_t = 4, value_name = "N")]
    senders: usize,
}

#[derive(Serialize)]
struct Report {
    messages: usize,
    seconds: f64,
    per_second: f64,
    /// From the call of send to the return of receive.
    latency_ms: Percentiles,
    /// Messages of somebody else that were seen and given back.
    foreign: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Requests>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Price>,
}

#[derive(Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

/// The attribute that tells this run's messages from others.
const MARK: &str = "towpath-bench";

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.messages > 0 && args.batch > 0 && args.senders > 0,
        "--messages, --batch and --senders must be at least 1"
    );
    let name = args.queue.as_ref().or(args.url.as_ref());
    let calls = Arc::new(Calls::default());
    let queue = counted(
        &global.queue(name.map_or("", String::as_str))?,
        calls.clone(),
    )?;
    let producer = queue.producer().await?;
    // Closed before the figures are read: the last acks belong to the run.
    let measured = queue::consuming(queue.consumer().await?, async |consumer| {
        tokio::select! {
            measured = measure(&args, producer, consumer) => measured.map(Some),
            () = signal::stopped() => Ok(None),
        }
    })
    .await?;
    let Some(measured) = measured else {
        output::tell("stopped; messages of this run may be left in the queue");
        return Ok(ExitCode::from(signal::INTERRUPTED));
    };
    let mut report = report(measured);
    if let Some((requests, price)) = price::of(queue.config(), calls.figures(), report.messages) {
        report.requests = Some(requests);
        report.price = Some(price);
    }
    match global.output {
        output::Form::Json => output::json(&report)?,
        output::Form::Human => show(&queue, &report)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The same queue, with its calls counted. Nothing is dead-lettered here.
fn counted(queue: &Queue, calls: Arc<Calls>) -> anyhow::Result<Queue> {
    let config = queue
        .config()
        .clone()
        .without_option("dead_letter")
        .without_option("max_attempts");
    let client_batch = match config.scheme() {
        // As towpath-pubsub sets it unless told otherwise.
        "pubsub" => Some(match config.option("batch_messages") {
            Some(batch) => batch.parse()?,
            None => 100,
        }),
        _ => None,
    };
    let counted = Counted {
        backend: queue.backend().clone(),
        calls,
        client_batch,
    };
    Ok(Registry::new().with(counted).open_config(config)?)
}

/// How long one receive waits.
const WAIT: Duration = Duration::from_secs(20);
/// After so many receives without a message no more are expected. An answer that got lost on the way
/// brings its messages back when their lease ends.
const PATIENCE: u32 = 3;

/// What a run took.
struct Measured {
    latencies: Vec<Duration>,
    elapsed: Duration,
    foreign: usize,
}

async fn measure(args: &Args, producer: Producer, consumer: &Consumer) -> anyhow::Result<Measured> {
    let bar = output::progress(Some(args.messages as u64), "measuring");
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let run = format!("{:x}", run.as_nanos());
    let begun = Instant::now();
    let mut sending = JoinSet::new();
    for sender in 0..args.senders {
        let share =
            args.messages / args.senders + usize::from(sender < args.messages % args.senders);
        let send = send(
            producer.clone(),
            run.clone(),
            begun,
            share,
            args.size,
            args.batch,
        );
        sending.spawn(send);
    }
    let mut acking = JoinSet::new();
    let (mut latencies, mut foreign) = (Vec::with_capacity(args.messages), Vec::new());
    let mut empty = 0;
    while latencies.len() < args.messages {
        let batch = consumer.receive_batch(args.batch, WAIT).await?;
        empty = if batch.is_empty() && sending.is_empty() {
            empty + 1
        } else {
            0
        };
        while let Some(sent) = sending.try_join_next() {
            sent??;
        }
        anyhow::ensure!(
            empty < PATIENCE,
            "{} of {} messages came back and no more come; is another consumer reading {}?",
            latencies.len(),
            args.messages,
            consumer.queue()
        );
        let (own, other): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|delivery| delivery.attributes().get(MARK) == Some(run.as_str()));
        foreign.extend(other);
        latencies.extend(own.iter().map(|delivery| latency(delivery, begun)));
        let consumer = consumer.clone();
        acking.spawn(async move { consumer.ack_batch(own).await });
        bar.set_position(latencies.len() as u64);
    }
    while let Some(acked) = acking.join_next().await {
        for acked in acked? {
            acked?;
        }
    }
    let elapsed = begun.elapsed();
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    producer.close().await?;
    bar.finish_and_clear();
    Ok(Measured {
        latencies,
        elapsed,
        foreign: foreign.len(),
    })
}

/// A body begins with the time at which it was sent, as 16 hexadecimal digits.
fn latency(delivery: &Delivery, begun: Instant) -> Duration {
    let sent = delivery
        .body()
        .get(..16)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    begun
        .elapsed()
        .saturating_sub(Duration::from_nanos(sent.unwrap_or(0)))
}

async fn send(
    producer: Producer,
    run: String,
    begun: Instant,
    messages: usize,
    size: u32,
    batch: usize,
) -> anyhow::Result<()> {
    let padding = "x".repeat(usize::try_from(size)?.saturating_sub(16));
    let mut left = messages;
    while left > 0 {
        let n = left.min(batch);
        let sent = u64::try_from(begun.elapsed().as_nanos())?;
        let body = format!("{sent:016x}{padding}");
        let batch: Vec<Message> = (0..n)
            .map(|_| Message::new(body.clone()).with_attribute(MARK, &run))
            .collect();
        for result in producer.send_batch(&batch).await {
            result?;
        }
        left -= n;
    }
    Ok(())
}

fn report(measured: Measured) -> Report {
    let Measured {
        mut latencies,
        elapsed,
        foreign,
    } = measured;
    latencies.sort_unstable();
    let at = |share: usize| {
        let index = (latencies.len() * share / 100).min(latencies.len().saturating_sub(1));
        latencies
            .get(index)
            .map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
    };
    Report {
        messages: latencies.len(),
        seconds: elapsed.as_secs_f64(),
        per_second: latencies.len() as f64 / elapsed.as_secs_f64().max(1e-9),
        latency_ms: Percentiles {
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        },
        foreign,
        requests: None,
        price: None,
    }
}

fn show(queue: &Queue, report: &Report) -> anyhow::Result<()> {
    let latency = &report.latency_ms;
    output::line(format_args!(
        "{} messages in {:.2} s: {:.0} per second",
        report.messages, report.seconds, report.per_second
    ))?;
    output::line(format_args!(
        "latency: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        latency.p50, latency.p95, latency.p99, latency.max
    ))?;
    if report.foreign > 0 {
        output::line(format_args!(
            "{} messages of somebody else were given back",
            report.foreign
        ))?;
    }
    let (Some(requests), Some(price)) = (&report.requests, &report.price) else {
        return output::line(format_args!(
            "requests: none; {} is in this process",
            queue::shown(queue)
        ));
    };
    let mut parts = vec![format!("{} send", requests.send)];
    if let Some(receive) = requests.receive {
        parts.push(format!("{receive} receive"));
    }
    parts.push(format!("{} ack and nack", requests.settle));
    if let Some(extend) = requests.extend {
        parts.push(format!("{extend} extend"));
    }
    let known = match requests.known {
        Known::Counted => "counted",
        Known::Estimated => "estimated, as the cloud's client batches by itself",
    };
    output::line(format_args!("requests: {} ({known})", parts.join(", ")))?;
    let billed = match (requests.billed, requests.billed_bytes) {
        (Some(requests), _) => format!("{requests} requests"),
        (_, Some(bytes)) => format!("{bytes} bytes"),
        _ => "nothing".to_owned(),
    };
    output::line(format_args!(
        "estimated price: {:.2} USD per million messages ({billed} billed; list price of {}, {})",
        price.usd_per_million_messages, price.as_of, price.source
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_the_sorted_latencies() {
        let report = report(Measured {
            latencies: (1..=100).rev().map(Duration::from_millis).collect(),
            elapsed: Duration::from_secs(2),
            foreign: 0,
        });
        assert_eq!(report.per_second, 50.0);
        assert_eq!(
            (report.latency_ms.p50, report.latency_ms.max),
            (51.0, 100.0)
        );
    }
}
