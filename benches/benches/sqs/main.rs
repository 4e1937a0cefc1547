//! The SQS adapter beside a loop written by hand on the SDK, and beside its peers: requests,
//! messages per second and CPU time, from send to ack.
//!
//! ```sh
//! eval "$(cargo xtask emulators up --only fauxqs)"
//! cargo bench -p towpath-benches --features sqs --bench sqs [-- --help]
//! ```
//!
//! Every contender runs in a process of its own, against the same server, through a proxy of the
//! bench's own that counts the requests; the CPU time is that of the contender's process alone.
//! In each round a queue is filled and then emptied. The contenders take turns, and medians of
//! their rounds are shown.
#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)]

mod counter;
mod hand_written;
mod omniqueue_sqs;
mod ruststream_sqs;
mod table;

use std::{env, process::ExitCode};

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use clap::{Parser, ValueEnum};
use towpath_benches::{
    Error,
    load::{Figures, Load},
    process,
    towpath_queue::{self, Style},
};
use towpath_core::{Queue, Registry};
use towpath_sqs::Sqs;

use counter::Counter;
use hand_written::Content;

/// The most messages of one request.
const BATCH: usize = 10;

/// Sends, receives and acks messages on a local SQS server, once by hand and once through each of
/// the libraries, and compares requests, throughput and CPU time.
#[derive(Debug, Parser)]
#[command(name = "sqs")]
struct Options {
    /// The server; its address is in the variable that `cargo xtask emulators up` prints
    #[arg(long, value_enum, default_value_t = Server::Fauxqs)]
    server: Server,
    /// How many messages each round moves
    #[arg(long, default_value_t = 20_000, value_name = "COUNT")]
    messages: usize,
    /// How many requests at once; contenders without batches have ten times as many messages at
    /// once instead, so that all have as many under way
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    tasks: usize,
    /// The size of a body in bytes
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    body: usize,
    /// How often each contender runs, after a round that does not count
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    rounds: usize,
    /// Only these contenders
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Contender>,
    /// Run one contender in this process, on the queue at this URL
    #[arg(long, hide = true)]
    queue: Option<String>,
    /// Where that queue is
    #[arg(long, hide = true)]
    endpoint: Option<String>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Server {
    Fauxqs,
    Elasticmq,
}

impl Server {
    fn variable(self) -> &'static str {
        match self {
            Self::Fauxqs => "TOWPATH_FAUXQS_ENDPOINT",
            Self::Elasticmq => "TOWPATH_ELASTICMQ_ENDPOINT",
        }
    }

    fn endpoint(self) -> Result<String, Error> {
        let variable = self.variable();
        env::var(variable)
            .ok()
            .filter(|endpoint| !endpoint.is_empty())
            .ok_or_else(|| {
                format!(
                    "{variable} is not set, so there is no server; start one with:\n    \
                     eval \"$(cargo xtask emulators up)\""
                )
                .into()
            })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Contender {
    /// A loop on aws-sdk-sqs: full batches of ten for everything
    HandWritten,
    /// The same loop with a key in an attribute of each message, as retries need it, which towpath
    /// always sends
    HandWrittenWithKey,
    /// towpath's send_batch, receive_batch and ack_batch
    Towpath,
    /// towpath's send, receive and ack, a message at a time, with prefetch=40
    TowpathSingle,
    /// omniqueue's batches for sending and receiving; it acks one at a time
    Omniqueue,
    /// omniqueue, sending one at a time
    OmniqueueSingle,
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
            Self::Towpath => {
                let queue = open(&load, "")?;
                towpath_queue::run(&queue, load, Style::Batches).await
            }
            Self::TowpathSingle => {
                // So that requests are full although each caller wants one message only.
                let queue = open(&load, "&prefetch=40")?;
                towpath_queue::run(&queue, load, Style::Single).await
            }
            Self::Omniqueue => omniqueue_sqs::run(load, true).await,
            Self::OmniqueueSingle => omniqueue_sqs::run(load, false).await,
            Self::Ruststream => ruststream_sqs::run(load).await,
        }
    }
}

fn main() -> ExitCode {
    process::main(run(Options::parse()))
}

async fn run(options: Options) -> Result<(), Error> {
    if let (Some(queue), Some(endpoint), [contender]) =
        (&options.queue, &options.endpoint, &options.only[..])
    {
        let load = options.load(endpoint, queue);
        load.check()?;
        return process::report(&contender.run(load).await?);
    }
    compare(&options).await
}

impl Options {
    fn load(&self, endpoint: &str, queue: &str) -> Load {
        Load {
            endpoint: endpoint.to_owned(),
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
    let endpoint = options.server.endpoint()?;
    options.load(&endpoint, "").check()?;
    let contenders: Vec<Contender> = Contender::value_variants()
        .iter()
        .copied()
        .filter(|contender| options.only.is_empty() || options.only.contains(contender))
        .collect();
    let client = client(&endpoint);
    let counter = Counter::start(&endpoint).await?;
    let mut rows: Vec<table::Row> = contenders
        .iter()
        .map(|contender| table::Row::new(contender.name()))
        .collect();
    // The first round only warms the server up.
    for round in 0..=options.rounds {
        // Another contender begins each round.
        let places = (0..contenders.len()).map(|place| (place + round) % contenders.len());
        for place in places {
            let queue = create(&client, round).await?;
            let before = counter.counts();
            let load = options.load(&counter.endpoint, &queue);
            let ran = process::contend(
                &contenders[place].name(),
                &load,
                &[
                    ("AWS_ACCESS_KEY_ID", "local"),
                    ("AWS_SECRET_ACCESS_KEY", "local"),
                    ("AWS_REGION", "us-east-1"),
                    ("AWS_ENDPOINT_URL", &counter.endpoint),
                ],
            )
            .await;
            let requests = counter.counts().since(&before);
            client.delete_queue().queue_url(queue).send().await?;
            let ran = ran?;
            if round > 0 {
                rows[place].rounds.push(ran);
                rows[place].requests.push(requests);
            }
        }
        eprintln!("round {round} of {} is done", options.rounds);
    }
    let server = options.server.to_possible_value();
    let server = server.as_ref().map_or("", |value| value.get_name());
    table::print(server, options.messages, &rows);
    Ok(())
}

/// Creates a queue for one run, and returns its URL.
async fn create(client: &Client, round: usize) -> Result<String, Error> {
    let name = format!("towpath-bench-{}-{round}", std::process::id());
    let created = client.create_queue().queue_name(name).send().await?;
    Ok(created.queue_url.ok_or("the new queue has no URL")?)
}

fn open(load: &Load, options: &str) -> Result<Queue, Error> {
    let url = format!("sqs://{}?endpoint={}{options}", load.queue, load.endpoint);
    Ok(Registry::new().with(Sqs::new()).open(&url)?)
}

/// A client of the SDK, as anybody would make one.
fn client(endpoint: &str) -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "bench"))
        .build();
    Client::from_conf(config)
}
