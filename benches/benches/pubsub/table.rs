//! What is shown.

use serde_json::json;

use crate::load::Figures;

/// A contender and its rounds.
pub(crate) struct Row {
    name: String,
    pub(crate) rounds: Vec<Figures>,
}

/// The medians of a contender's rounds.
struct Medians {
    /// Messages per second: from the first send to the last ack, and of each half alone.
    rate: f64,
    send_rate: f64,
    receive_rate: f64,
    slowest: f64,
    fastest: f64,
    /// Microseconds per message.
    cpu: f64,
    send_cpu: f64,
    receive_cpu: f64,
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
        let of = |figure: &dyn Fn(&Figures) -> f64| median(self.rounds.iter().map(figure));
        let ratio = |figure: &dyn Fn(&Figures) -> f64| {
            let pairs = self.rounds.iter().zip(&first.rounds);
            median(pairs.map(|(own, other)| figure(own) / figure(other)))
        };
        let mut rates: Vec<f64> = self
            .rounds
            .iter()
            .map(|figures| messages / elapsed(figures))
            .collect();
        rates.sort_by(f64::total_cmp);
        Medians {
            rate: of(&|figures| messages / elapsed(figures)),
            send_rate: of(&|figures| messages / figures.send),
            receive_rate: of(&|figures| messages / figures.receive),
            slowest: rates.first().copied().unwrap_or_default(),
            fastest: rates.last().copied().unwrap_or_default(),
            cpu: of(&|figures| cpu(figures) * 1e6 / messages),
            send_cpu: of(&|figures| figures.send_cpu * 1e6 / messages),
            receive_cpu: of(&|figures| figures.receive_cpu * 1e6 / messages),
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Prints a table for people, and then a line of JSON for each contender.
pub(crate) fn print(messages: usize, rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let medians: Vec<Medians> = rows
        .iter()
        .map(|row| row.medians(messages as f64, first))
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
