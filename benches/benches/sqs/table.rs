//! What is shown.

use serde_json::json;
use towpath_benches::{
    load::Figures,
    medians::{Medians, median},
};

use crate::counter::Counts;

/// A contender and its rounds.
pub(crate) struct Row {
    name: String,
    pub(crate) rounds: Vec<Figures>,
    pub(crate) requests: Vec<Counts>,
}

impl Row {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            rounds: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn requests_per_message(&self, messages: f64) -> f64 {
        median(
            self.requests
                .iter()
                .map(|requests| requests.total() as f64 / messages),
        )
    }
}

/// Prints a table for people, and then a line of JSON for each contender.
pub(crate) fn print(server: &str, messages: usize, rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let all = messages as f64;
    let medians: Vec<Medians> = rows
        .iter()
        .map(|row| Medians::new(all, &row.rounds, &first.rounds))
        .collect();
    println!(
        "\n{server}, {messages} messages a round, {} rounds; medians. Ratios are to {}, round by round.\n",
        first.rounds.len(),
        first.name
    );
    println!(
        "| {:<21} | requests/message | messages/s | slowest..fastest | send/s | receive+ack/s | \
         CPU us/message | throughput | CPU   |",
        ""
    );
    println!(
        "|{}|",
        [
            "-".repeat(23),
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
            "| {:<21} | {:>16.3} | {:>10.0} | {range:>16} | {:>6.0} | {:>13.0} | {:>14.1} | \
             {:>9.2}x | {:>4.2}x |",
            row.name,
            row.requests_per_message(all),
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
        if let Some(requests) = row.requests.last() {
            println!("  {:<21} {}", row.name, requests.list());
        }
    }
    println!();
    for (row, of) in rows.iter().zip(&medians) {
        let line = json!({
            "contender": row.name,
            "server": server,
            "messages": messages,
            "rounds": row.rounds.len(),
            "requests_per_message": row.requests_per_message(all),
            "messages_per_second": of.rate,
            "cpu_us_per_message": of.cpu,
            "throughput_ratio": of.rate_ratio,
            "cpu_ratio": of.cpu_ratio,
        });
        println!("{line}");
    }
}
