use std::{
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;
use towpath::{Message, Producer};

use crate::{Global, output, signal};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queue: a URL or a configured name; it should be empty and used by nobody else
    queue: String,
    /// How many messages
    #[arg(long, short, default_value_t = 1_000, value_name = "N")]
    messages: usize,
    /// The size of a body in bytes
    #[arg(long, default_value_t = 256, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16..=700_000))]
    size: u32,
    /// How many messages are sent, received and acked in one call
    #[arg(long, default_value_t = 10, value_name = "N")]
    batch: usize,
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
}

#[derive(Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

const MARK: &str = "towpath-bench";

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.messages > 0 && args.batch > 0,
        "--messages and --batch must be at least 1"
    );
    let queue = global.queue(&args.queue)?;
    let (producer, consumer) = (queue.producer().await?, queue.consumer().await?);
    let run = format!(
        "{:x}",
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_nanos()
    );
    let bar = output::progress(Some(args.messages as u64), "measuring");
    let begun = Instant::now();
    let sending = tokio::spawn(send(
        producer,
        run.clone(),
        begun,
        args.messages,
        args.size as usize,
        args.batch,
    ));
    let stopped = signal::stopped();
    tokio::pin!(stopped);
    let (mut latencies, mut foreign) = (Vec::with_capacity(args.messages), Vec::new());
    while latencies.len() < args.messages {
        let batch = tokio::select! {
            batch = consumer.receive_batch(args.batch, Duration::from_secs(20)) => batch?,
            () = &mut stopped => break,
        };
        anyhow::ensure!(
            !(batch.is_empty() && sending.is_finished()),
            "{} of {} messages came back and no more come; is another consumer reading {}?",
            latencies.len(),
            args.messages,
            args.queue
        );
        let (own, other): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|delivery| delivery.attributes().get(MARK) == Some(run.as_str()));
        foreign.extend(other);
        for delivery in &own {
            let sent = delivery
                .body()
                .first_chunk::<8>()
                .map_or(0, |nanos| u64::from_le_bytes(*nanos));
            latencies.push(begun.elapsed().saturating_sub(Duration::from_nanos(sent)));
        }
        for acked in consumer.ack_batch(own).await {
            acked?;
        }
        bar.set_position(latencies.len() as u64);
    }
    let elapsed = begun.elapsed();
    sending.await??;
    bar.finish_and_clear();
    let report = report(latencies, elapsed, foreign.len());
    drop(foreign);
    consumer.close().await?;
    match global.output {
        output::Form::Json => output::json(&report)?,
        output::Form::Human => output::line(format_args!(
            "{} messages in {:.2} s: {:.0} per second; latency p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            report.messages,
            report.seconds,
            report.per_second,
            report.latency_ms.p50,
            report.latency_ms.p95,
            report.latency_ms.p99,
            report.latency_ms.max,
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn send(
    producer: Producer,
    run: String,
    begun: Instant,
    messages: usize,
    size: usize,
    batch: usize,
) -> anyhow::Result<()> {
    let mut left = messages;
    while left > 0 {
        let n = left.min(batch);
        let sent = u64::try_from(begun.elapsed().as_nanos())?;
        let mut body = vec![b'x'; size];
        body[..8].copy_from_slice(&sent.to_le_bytes());
        let batch: Vec<Message> = (0..n)
            .map(|_| Message::new(body.clone()).with_attribute(MARK, &run))
            .collect();
        for result in producer.send_batch(&batch).await {
            result?;
        }
        left -= n;
    }
    producer.close().await?;
    Ok(())
}

fn report(mut latencies: Vec<Duration>, elapsed: Duration, foreign: usize) -> Report {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_the_sorted_latencies() {
        let latencies = (1..=100).rev().map(Duration::from_millis).collect();
        let report = report(latencies, Duration::from_secs(2), 0);
        assert_eq!(report.per_second, 50.0);
        assert_eq!(
            (report.latency_ms.p50, report.latency_ms.max),
            (51.0, 100.0)
        );
    }
}
