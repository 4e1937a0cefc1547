//! The Pub/Sub adapter beside a publisher and a subscriber written by hand on the client library,
//! and beside its peers: messages per second and CPU time, from send to ack.
//!
//! ```sh
//! eval "$(cargo xtask emulators up --only google)"
//! cargo bench -p towpath-benches --features pubsub --bench pubsub [-- --help]
//! ```
//!
//! Every contender runs in a process of its own, against the same server; the CPU time is that of
//! the contender's process alone. In each round a topic with a subscription is filled and then
//! emptied. The rounds of the contenders alternate, and medians are shown.
#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)]

mod hand_written;
mod omniqueue_pubsub;
mod queue;
mod ruststream_pubsub;
mod table;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use towpath_benches::{
    Error,
    load::{Figures, Load},
    process,
    towpath_queue::{self, Style},
};
use towpath_core::Registry;
use towpath_pubsub::PubSub;

use hand_written::Content;
use queue::{PROJECT, Queue};

/// How many messages are sent and received together.
const BATCH: usize = 100;

/// Sends, receives and acks messages on a local Pub/Sub server, once by hand and once through each
/// of the libraries, and compares throughput and CPU time.
#[derive(Debug, Parser)]
#[command(name = "pubsub")]
struct Options {
    /// The server's address
    #[arg(
        long,
        value_name = "URL",
        env = "TOWPATH_PUBSUB_EMULATOR_ENDPOINT",
        hide_env_values = true
    )]
    endpoint: String,
    /// How many messages each round moves
    #[arg(long, default_value_t = 40_000, value_name = "COUNT")]
    messages: usize,
    /// How many batches of a hundred are sent at once; contenders without batches have as many
    /// messages under way
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    tasks: usize,
    /// The size of a body in bytes
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    body: usize,
    /// How often each contender runs
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    rounds: usize,
    /// Only these contenders
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Contender>,
    /// Run one contender in this process, on the topic and subscription of this name
    #[arg(long, hide = true)]
    queue: Option<String>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Contender {
    /// google-cloud-pubsub itself: a publisher, and one stream
    HandWritten,
    /// The same with a key in an attribute of each message, as retries need it, which towpath
    /// always sends
    HandWrittenWithKey,
    /// towpath's send_batch, receive_batch and ack_batch
    Towpath,
    /// towpath's send, receive and ack, a message at a time
    TowpathSingle,
    /// omniqueue's batches for sending and receiving; it acks one at a time
    Omniqueue,
    /// RustStream, which receives batches, and sends and acks one at a time
    Ruststream,
}

impl Contender {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    async fn run(self, load: Load) -> Result<Figures, Error> {
        match self {
            Self::HandWritten => hand_written::run(load, Content::Body).await,
            Self::HandWrittenWithKey => hand_written::run(load, Content::BodyAndKey).await,
            Self::Towpath => towpath_queue::run(&open(&load)?, load, Style::Batches).await,
            Self::TowpathSingle => towpath_queue::run(&open(&load)?, load, Style::Single).await,
            Self::Omniqueue => omniqueue_pubsub::run(load).await,
            Self::Ruststream => ruststream_pubsub::run(load).await,
        }
    }
}

fn open(load: &Load) -> Result<towpath_core::Queue, Error> {
    let url = format!(
        "pubsub://{PROJECT}/{}?endpoint={}",
        load.queue, load.endpoint
    );
    Ok(Registry::new().with(PubSub::new()).open(&url)?)
}

fn main() -> ExitCode {
    process::main(run(Options::parse()))
}

async fn run(options: Options) -> Result<(), Error> {
    if let (Some(queue), [contender]) = (&options.queue, &options.only[..]) {
        let load = options.load(queue);
        load.check()?;
        return process::report(&contender.run(load).await?);
    }
    compare(&options).await
}

impl Options {
    fn load(&self, queue: &str) -> Load {
        Load {
            endpoint: self.endpoint.clone(),
            queue: queue.to_owned(),
            messages: self.messages,
            tasks: self.tasks,
            batch: BATCH,
            body: self.body,
        }
    }
}

async fn compare(options: &Options) -> Result<(), Error> {
    if options.rounds == 0 {
        return Err("--rounds is at least 1".into());
    }
    options.load("").check()?;
    // omniqueue can be told in no other way.
    let host = options.endpoint.trim_start_matches("http://");
    let contenders: Vec<Contender> = Contender::value_variants()
        .iter()
        .copied()
        .filter(|contender| options.only.is_empty() || options.only.contains(contender))
        .collect();
    let mut rows: Vec<table::Row> = contenders
        .iter()
        .map(|contender| table::Row::new(contender.name()))
        .collect();
    for round in 1..=options.rounds {
        for (i, (contender, row)) in contenders.iter().zip(&mut rows).enumerate() {
            let name = format!("towpath-bench-{}-{round}-{i}", std::process::id());
            let queue = Queue::create(&options.endpoint, name).await?;
            let ran = process::contend(
                &contender.name(),
                &options.load(&queue.name),
                &[("PUBSUB_EMULATOR_HOST", host)],
            )
            .await;
            queue.delete().await?;
            row.rounds.push(ran?);
        }
        eprintln!("round {round} of {} is done", options.rounds);
    }
    table::print(options.messages, &rows);
    Ok(())
}
