//! Posts a file of events over HTTP, waits until all is settled, and proves that none was lost.

use std::{
    collections::BTreeSet,
    fmt,
    io::IsTerminal,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use towpath::{
    Consumer, Delivery,
    webhook::signature::{Key, mailgun},
};
use uuid::Uuid;

use crate::{
    crm,
    events::{Expect, Line, TimestampForm},
};

/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// How long nothing may change before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where every accepted event ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Events that were accepted for the first time.
    pub accepted: usize,
    /// Of those, how many the CRM applied.
    pub applied: usize,
    /// Requests that repeated an accepted event.
    pub duplicates: usize,
    /// Of the accepted, how many are parked in a dead-letter queue.
    pub dead_lettered: usize,
    /// Of the accepted, how many are nowhere.
    pub lost: usize,
    /// Requests that were refused, as they should be.
    pub refused: usize,
    /// Requests that were answered otherwise than they should be.
    pub unexpected: usize,
}

impl Ledger {
    /// Whether nothing was lost and every answer was right.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.unexpected == 0
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted={} applied={} duplicates={} dead_lettered={} lost={} refused={} unexpected={}",
            self.accepted,
            self.applied,
            self.duplicates,
            self.dead_lettered,
            self.lost,
            self.refused,
            self.unexpected
        )
    }
}

/// The receiver's answer to what it accepted.
#[derive(Deserialize)]
struct Receipt {
    /// The idempotency key of the message; the same when the event comes again.
    id: Uuid,
}

/// Reads a file of events.
///
/// # Errors
///
/// When it cannot be read, with the line that is wrong.
pub fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{} line {}", path.display(), number + 1))
        })
        .collect()
}

/// The webhook that Mailgun would post for `line` now.
pub fn webhook(line: &Line, key: &Key) -> Value {
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let timestamp = match line.timestamp {
        TimestampForm::String => json!(seconds.to_string()),
        TimestampForm::Integer => json!(seconds),
    };
    let token: String = (0..50).map(|_| fastrand::digit(16)).collect();
    let forged = Key::new("not the right key");
    let key = if line.expect == Expect::Forged {
        &forged
    } else {
        key
    };
    mailgun::signed_body(key, &timestamp, &token, &line.event)
}

/// Posts `lines`, waits until all that was accepted is settled, and counts.
///
/// # Errors
///
/// When the receiver or the CRM cannot be reached.
pub async fn run(
    lines: &[Line],
    key: &Key,
    receiver: &Url,
    crm: &Url,
    dead_letters: &[Consumer],
) -> anyhow::Result<Ledger> {
    let client = Client::new();
    let mut ledger = Ledger::default();
    let accepted = post(&client, lines, key, receiver, &mut ledger).await?;
    ledger.accepted = accepted.len();
    settle(&client, accepted, crm, dead_letters, &mut ledger).await?;
    Ok(ledger)
}

async fn post(
    client: &Client,
    lines: &[Line],
    key: &Key,
    receiver: &Url,
    ledger: &mut Ledger,
) -> anyhow::Result<BTreeSet<Uuid>> {
    let url = receiver.join("/hooks/mailgun")?;
    let bar = progress(lines.len(), "posting");
    let mut answers = stream::iter(lines)
        .map(|line| {
            let (client, url) = (client.clone(), url.clone());
            async move {
                let answer = client.post(url).json(&webhook(line, key)).send().await?;
                let status = answer.status();
                let receipt: Option<Receipt> = answer.json().await.ok();
                anyhow::Ok((line.expect, status, receipt))
            }
        })
        .buffer_unordered(AT_ONCE);
    let mut accepted = BTreeSet::new();
    while let Some(answer) = answers.next().await {
        bar.inc(1);
        match answer.context("the receiver did not answer")? {
            (Expect::Accepted | Expect::Duplicate, StatusCode::OK, Some(receipt)) => {
                if !accepted.insert(receipt.id) {
                    ledger.duplicates += 1;
                }
            }
            (Expect::Malformed, StatusCode::NOT_ACCEPTABLE, _)
            | (Expect::Forged, StatusCode::UNAUTHORIZED, _) => {
                ledger.refused += 1;
            }
            (expect, status, _) => {
                tracing::error!(?expect, %status, "an unexpected answer");
                ledger.unexpected += 1;
            }
        }
    }
    bar.finish_and_clear();
    Ok(accepted)
}

async fn settle(
    client: &Client,
    mut open: BTreeSet<Uuid>,
    crm: &Url,
    dead_letters: &[Consumer],
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    let bar = progress(open.len(), "settling");
    // Held to the end and then given back, so that each is counted once.
    let mut parked: Vec<Delivery> = Vec::new();
    let mut changed = Instant::now();
    while !open.is_empty() {
        let before = open.len();
        let summary: crm::Summary = client
            .get(crm.join("/ledger")?)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        open.retain(|id| !summary.keys.contains(&id.to_string()));
        ledger.applied += before - open.len();
        for consumer in dead_letters {
            for delivery in consumer
                .receive_batch(100, Duration::from_millis(100))
                .await?
            {
                if open.remove(&delivery.envelope().message.idempotency_key()) {
                    ledger.dead_lettered += 1;
                }
                parked.push(delivery);
            }
        }
        bar.inc((before - open.len()) as u64);
        if open.len() < before {
            changed = Instant::now();
        } else if changed.elapsed() > PATIENCE {
            break;
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    bar.finish_and_clear();
    ledger.lost = open.len();
    for id in open.iter().take(10) {
        tracing::error!(%id, "accepted, and neither applied nor dead-lettered");
    }
    Ok(())
}

fn progress(length: usize, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:9} {wide_bar} {pos}/{len} {per_sec} eta {eta}");
    ProgressBar::new(length as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

/// One line for the reader of a replay who wants to see why messages were parked.
pub async fn reasons(dead_letters: &[Consumer]) -> anyhow::Result<Vec<String>> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let mut parked = Vec::new();
    for consumer in dead_letters {
        loop {
            let batch = consumer
                .receive_batch(100, Duration::from_millis(100))
                .await?;
            if batch.is_empty() {
                break;
            }
            for delivery in &batch {
                let failure = delivery.envelope().message.failure();
                let reason = failure.map_or("no reason given", |failure| failure.reason.as_str());
                *counts.entry(reason.to_owned()).or_default() += 1;
            }
            parked.extend(batch);
            if parked.len() > 100_000 {
                bail!("too many dead letters to list");
            }
        }
    }
    Ok(counts
        .into_iter()
        .map(|(reason, count)| format!("{count} x {reason}"))
        .collect())
}
