use std::{process::ExitCode, time::Duration};

use serde::Serialize;
use towpath::{Consumer, Delivery, Envelope, FailureClass};

use crate::{Global, output, queue, signal};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queue: a URL or a configured name
    queue: String,
    /// Stop after this many messages [default: go on until Ctrl-C]
    #[arg(long, short, value_name = "N")]
    count: Option<usize>,
    /// Stop when no message came for this long, e.g. 5s [default: go on until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    idle: Option<Duration>,
    /// Remove the messages from the queue; without it they are given back at the end (which counts
    /// as an attempt)
    #[arg(long)]
    ack: bool,
    /// Move the messages to the queue's dead-letter queue, with this reason, as a worker would
    /// that cannot handle them; needs --count
    #[arg(
        long,
        value_name = "REASON",
        conflicts_with = "ack",
        requires = "count"
    )]
    dead_letter: Option<String>,
    /// Print bodies only, as they are
    #[arg(long, conflicts_with = "output")]
    raw: bool,
}

/// A message as it is printed.
#[derive(Serialize)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) idempotency_key: String,
    pub(crate) attempt: Option<u32>,
    pub(crate) sent_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ordering_key: Option<String>,
    pub(crate) attributes: std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<towpath::FailureRecord>,
    /// Text, or `body_base64` where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body_base64: Option<String>,
}

impl Shown {
    pub(crate) fn new(envelope: &Envelope) -> Self {
        let message = &envelope.message;
        let text = std::str::from_utf8(message.body()).ok();
        Self {
            id: envelope.id.to_string(),
            idempotency_key: message.idempotency_key().to_string(),
            attempt: envelope.attempt,
            sent_at: envelope
                .sent_at
                .map(|at| humantime::format_rfc3339_millis(at).to_string()),
            ordering_key: message.ordering_key().map(str::to_owned),
            attributes: message
                .attributes()
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            failure: message.failure().cloned(),
            body: text.map(str::to_owned),
            body_base64: match text {
                Some(_) => None,
                None => Some(towpath::wire::body_to_text(message.body()).0.into_owned()),
            },
        }
    }

    fn print(&self) -> anyhow::Result<()> {
        let body = self
            .body
            .as_ref()
            .or(self.body_base64.as_ref())
            .map_or("", String::as_str);
        let attempt = self
            .attempt
            .map_or(String::new(), |n| format!(" attempt={n}"));
        let key = self
            .ordering_key
            .as_ref()
            .map_or(String::new(), |key| format!(" key={key}"));
        let attributes: Vec<String> = self
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        output::line(format_args!(
            "{} {}{attempt}{key} {}",
            self.sent_at.as_deref().unwrap_or("-"),
            self.id,
            attributes.join(" ")
        ))?;
        if let Some(failure) = &self.failure {
            output::line(format_args!(
                "  failed in {}: {}",
                failure.queue, failure.reason
            ))?;
        }
        output::line(format_args!(
            "  {}",
            output::preview(body.as_bytes(), 2_000)
        ))
    }
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let consumer = global.queue(&args.queue)?.consumer().await?;
    let seen = queue::consuming(consumer, async |consumer| {
        receive(global, &args, consumer).await
    });
    output::note(format_args!("{} messages", seen.await?));
    Ok(ExitCode::SUCCESS)
}

async fn receive(global: &Global, args: &Args, consumer: &Consumer) -> anyhow::Result<usize> {
    let stopped = signal::stopped();
    tokio::pin!(stopped);
    let mut seen = 0;
    // Held until the end, so that no message is shown twice.
    let mut held = Vec::new();
    while args.count.is_none_or(|count| seen < count) {
        let wait = args.idle.unwrap_or(Duration::from_secs(20));
        let most = args.count.map_or(10, |count| count - seen).min(10);
        let batch = tokio::select! {
            batch = consumer.receive_batch(most, wait) => batch?,
            // Dropping the receive loses nothing; see its cancel safety.
            () = &mut stopped => break,
        };
        if batch.is_empty() && args.idle.is_some() {
            break;
        }
        for delivery in batch {
            print(&delivery, global, args.raw)?;
            seen += 1;
            if args.ack {
                delivery.ack().await?;
            } else if let Some(reason) = &args.dead_letter {
                let class = FailureClass::Permanent;
                delivery.dead_letter(class, reason).await?;
            } else {
                held.push(delivery);
            }
        }
    }
    Ok(seen)
}

fn print(delivery: &Delivery, global: &Global, raw: bool) -> anyhow::Result<()> {
    if raw {
        return output::bytes(&[delivery.body(), &b"\n"[..]].concat());
    }
    let shown = Shown::new(delivery.envelope());
    match global.output {
        output::Form::Json => output::json(&shown),
        output::Form::Human => shown.print(),
    }
}
