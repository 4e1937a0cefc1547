//! What is made of the rounds.

use crate::load::Figures;

/// The medians of a contender's rounds.
#[derive(Clone, Debug)]
pub struct Medians {
    /// Messages per second, from the first send to the last ack.
    pub rate: f64,
    /// Messages per second while sending.
    pub send_rate: f64,
    /// Messages per second while receiving and acking.
    pub receive_rate: f64,
    /// The least messages per second of a round.
    pub slowest: f64,
    /// The most messages per second of a round.
    pub fastest: f64,
    /// Microseconds of CPU time per message.
    pub cpu: f64,
    /// Of it, while sending.
    pub send_cpu: f64,
    /// Of it, while receiving and acking.
    pub receive_cpu: f64,
    /// The rate to that of the first contender, round by round.
    pub rate_ratio: f64,
    /// The CPU time to that of the first contender, round by round.
    pub cpu_ratio: f64,
}

impl Medians {
    /// Of `rounds`, of so many messages each, beside those of the first contender.
    pub fn new(messages: f64, rounds: &[Figures], first: &[Figures]) -> Self {
        let of = |figure: &dyn Fn(&Figures) -> f64| median(rounds.iter().map(figure));
        let ratio = |figure: &dyn Fn(&Figures) -> f64| {
            let pairs = rounds.iter().zip(first);
            median(pairs.map(|(own, other)| figure(own) / figure(other)))
        };
        let rates = || rounds.iter().map(|figures| messages / elapsed(figures));
        Self {
            rate: median(rates()),
            send_rate: of(&|figures| messages / figures.send),
            receive_rate: of(&|figures| messages / figures.receive),
            slowest: rates().fold(f64::INFINITY, f64::min),
            fastest: rates().fold(0.0, f64::max),
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

/// The one in the middle; 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
