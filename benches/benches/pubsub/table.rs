//! What is shown.

use serde_json::json;
use towpath_benches::{load::Figures, medians::Medians};

/// A contender and its rounds.
pub(crate) struct Row {
    name: String,
    pub(crate) rounds: Vec<Figures>,
}

impl Row {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            rounds: Vec::new(),
        }
    }
}

/// Prints a table for people, and then a line of JSON for each contender.
pub(crate) fn print(messages: usize, rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let medians: Vec<Medians> = rows
        .iter()
        .map(|row| Medians::new(messages as f64, &row.rounds, &first.rounds))
        .collect();
    println!(
        "\n{messages} messages a round, {} rounds; medians. Ratios are to {}, round by round.\n",
        first.rounds.len(),
        first.name
    );
    println!(
        "| contender | messages/s | slowest..fastest | send/s | receive+ack/s | CPU us/message | \
         of it sending | receiving | throughput | CPU |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (row, of) in rows.iter().zip(&medians) {
        println!(
            "| {} | {:.0} | {:.0}..{:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.2}x | \
             {:.2}x |",
            row.name,
            of.rate,
            of.slowest,
            of.fastest,
            of.send_rate,
            of.receive_rate,
            of.cpu,
            of.send_cpu,
            of.receive_cpu,
            of.rate_ratio,
            of.cpu_ratio,
        );
    }
    println!();
    for (row, of) in rows.iter().zip(&medians) {
        let line = json!({
            "contender": row.name,
            "messages": messages,
            "rounds": row.rounds.len(),
            "messages_per_second": of.rate,
            "cpu_us_per_message": of.cpu,
            "throughput_ratio": of.rate_ratio,
            "cpu_ratio": of.cpu_ratio,
        });
        println!("{line}");
    }
}
