//! What is shown.

use serde_json::json;

use crate::{counter::Counts, load::Figures};

/// A contender and its rounds.
pub(crate) struct Row {
    name: String,
    pub(crate) rounds: Vec<(Figures, Counts)>,
}

/// The medians of a contender's rounds.
struct Medians {
    /// Per message.
    requests: f64,
    /// Messages per second: from the first send to the last ack, and of each half alone.
    rate: f64,
    send_rate: f64,
    receive_rate: f64,
    slowest: f64,
    fastest: f64,
    /// Microseconds per message.
    cpu: f64,
    /// To the first contender, round by round.
    rate_ratio: f64,
    cpu_ratio: f64,
}

impl Row {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            rounds: Vec::new(),
        }
    }

    fn medians(&self, messages: f64, first: &Self) -> Medians {
        let of = |figure: &dyn Fn(&(Figures, Counts)) -> f64| {
            median(self.rounds.iter().map(figure).collect())
        };
        let ratio = |figure: &dyn Fn(&Figures) -> f64| {
            let pairs = self.rounds.iter().zip(&first.rounds);
            median(
                pairs
                    .map(|(own, other)| figure(&own.0) / figure(&other.0))
                    .collect(),
            )
        };
        let mut rates: Vec<f64> = self
            .rounds
            .iter()
            .map(|(figures, _)| messages / elapsed(figures))
            .collect();
        rates.sort_by(f64::total_cmp);
        Medians {
            requests: of(&|(_, requests)| requests.total() as f64 / messages),
            rate: of(&|(figures, _)| messages / elapsed(figures)),
            send_rate: of(&|(figures, _)| messages / figures.send),
            receive_rate: of(&|(figures, _)| messages / figures.receive),
            slowest: rates.first().copied().unwrap_or_default(),
            fastest: rates.last().copied().unwrap_or_default(),
            cpu: of(&|(figures, _)| cpu(figures) * 1e6 / messages),
            rate_ratio: ratio(&|figures| 1.0 / elapsed(figures)),
            cpu_ratio: ratio(&cpu),
        }
    }
}

fn elapsed(figures: &Figures) -> f64 {
    figures.send + figures.receive
}

fn cpu(figures: &Figures) -> f64 {
    figures.send_cpu + figures.receive_cpu
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Prints a table for people, and then a line of JSON for each contender.
pub(crate) fn print(server: &str, messages: usize, rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let medians: Vec<Medians> = rows
        .iter()
        .map(|row| row.medians(messages as f64, first))
        .collect();
    println!(
        "\n{server}, {messages} messages a round, {} rounds; medians. Ratios are to {}, round by round.\n",
        first.rounds.len(),
        first.name
    );
    println!(
        "| {:<16} | requests/message | messages/s | slowest..fastest | send/s | receive+ack/s | \
         CPU us/message | throughput | CPU   |",
        ""
    );
    println!(
        "|{}|",
        [
            "-".repeat(18),
            "-".repeat(18),
            "-".repeat(12),
            "-".repeat(18),
            "-".repeat(8),
            "-".repeat(15),
            "-".repeat(16),
            "-".repeat(12),
            "-".repeat(7)
        ]
        .join("|")
    );
    for (row, of) in rows.iter().zip(&medians) {
        let range = format!("{:.0}..{:.0}", of.slowest, of.fastest);
        println!(
            "| {:<16} | {:>16.3} | {:>10.0} | {range:>16} | {:>6.0} | {:>13.0} | {:>14.1} | \
             {:>9.2}x | {:>4.2}x |",
            row.name,
            of.requests,
            of.rate,
            of.send_rate,
            of.receive_rate,
            of.cpu,
            of.rate_ratio,
            of.cpu_ratio,
        );
    }
    println!("\nRequests of the last round:");
    for row in rows {
        if let Some((_, requests)) = row.rounds.last() {
            println!("  {:<16} {}", row.name, requests.list());
        }
    }
    println!();
    for (row, of) in rows.iter().zip(&medians) {
        let line = json!({
            "contender": row.name,
            "server": server,
            "messages": messages,
            "rounds": row.rounds.len(),
            "requests_per_message": of.requests,
            "messages_per_second": of.rate,
            "cpu_us_per_message": of.cpu,
            "throughput_ratio": of.rate_ratio,
            "cpu_ratio": of.cpu_ratio,
        });
        println!("{line}");
    }
}
