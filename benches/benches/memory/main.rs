//! The in-memory queue beside its peers: 256 B messages from send to ack.
//!
//! `cargo bench -p towpath-benches --bench memory [-- LOAD [CONTENDER]]` prints a table per load.
//! Every contender is timed in turn, round after round, and the median of the rounds is shown.
#![allow(missing_docs, clippy::print_stdout)]

mod channels;
mod depth;
mod load;
mod omniqueue_memory;
mod ruststream_memory;
mod towpath_memory_queue;

use std::time::Duration;

use futures::future::BoxFuture;
use load::Load;

const ROUNDS: usize = 9;

type Contender = (&'static str, fn(Load) -> BoxFuture<'static, Duration>);

const CONTENDERS: &[Contender] = &[
    ("towpath", |load| Box::pin(towpath_memory_queue::run(load))),
    ("omniqueue", |load| Box::pin(omniqueue_memory::run(load))),
    ("ruststream", |load| Box::pin(ruststream_memory::run(load))),
    ("async-channel", |load| {
        Box::pin(channels::async_channel(load))
    }),
    ("tokio mpsc", |load| Box::pin(channels::tokio_mpsc(load))),
];

fn main() {
    let mut filters = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'));
    let filter = filters.next().unwrap_or_default();
    let contender = filters.next().unwrap_or_default();
    for (tasks, batch) in [(1, 1), (1, 100), (4, 1), (4, 100)] {
        let title = format!("{tasks} producer(s) + {tasks} consumer(s), batches of {batch}");
        if title.contains(&filter) {
            throughput(&title, tasks, batch, &contender);
        }
    }
    if "depth".contains(&filter) {
        depth::run();
    }
}

fn throughput(title: &str, tasks: usize, batch: usize, contender: &str) {
    let contenders: Vec<&Contender> = CONTENDERS
        .iter()
        .filter(|(name, _)| name.contains(contender))
        .collect();
    let load = Load {
        tasks,
        batch,
        messages: 200_000,
    };
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, run), times) in contenders.iter().zip(&mut times) {
            times.push(runtime().block_on(run(load)));
        }
    }
    println!("\n{title}");
    println!(
        "  {:<15}{:>12}{:>14}{:>20}{:>16}",
        "", "ns/message", "messages/s", "fastest..slowest", "towpath is"
    );
    let per_message = |time: Duration| time.as_nanos() as f64 / load.messages as f64;
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            per_message(times[times.len() / 2])
        })
        .collect();
    for (((name, _), median), times) in contenders.iter().zip(&medians).zip(&times) {
        println!(
            "  {name:<15}{median:>12.0}{:>14.0}{:>20}{:>15.2}x",
            1e9 / median,
            format!(
                "{:.0}..{:.0}",
                per_message(times[0]),
                per_message(times[times.len() - 1])
            ),
            median / medians[0],
        );
    }
}

/// As many threads as the machine has, at least two.
fn runtime() -> tokio::runtime::Runtime {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime starts")
}
