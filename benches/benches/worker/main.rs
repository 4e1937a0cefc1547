//! What the worker adds to the bare consumer, per message, on the in-memory queue.
//!
//! `cargo bench -p towpath-benches --bench worker [-- CONTENDER]` drains a full queue by each
//! contender in turn, round after round, on one thread. Shown is the CPU time of the process (so
//! that a busy machine disturbs less), the median of the rounds, without the filling of the queue.
#![allow(missing_docs, clippy::print_stdout)]

mod contenders;

use std::time::Duration;

use contenders::{CONTENDERS, Contender, MESSAGES};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 15;

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let filter = filter.unwrap_or_default();
    let contenders: Vec<&Contender> = CONTENDERS
        .iter()
        .filter(|(name, _)| name.contains(&filter))
        .collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, drain), times) in contenders.iter().zip(&mut times) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts");
            let took = runtime.block_on(async {
                let scene = contenders::Scene::full().await;
                let begun = cpu();
                drain(&scene).await;
                let took = cpu() - begun;
                assert_eq!(scene.left().await, 0);
                took
            });
            times.push(took.as_nanos() as f64 / MESSAGES as f64);
        }
    }
    println!("\n{MESSAGES} messages of 256 B, drained on one thread; ns of CPU per message");
    println!(
        "  {:<46}{:>8}{:>20}{:>12}",
        "", "median", "lowest..highest", "over first"
    );
    let mut first = None;
    for ((name, _), times) in contenders.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let over = median - *first.get_or_insert(median);
        let range = format!("{:.0}..{:.0}", times[0], times[times.len() - 1]);
        println!("  {name:<46}{median:>8.0}{range:>20}{over:>12.0}");
    }
}

/// The CPU time that this process has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("it is positive"),
        u32::try_from(time.tv_nsec).expect("it is below a second"),
    )
}
