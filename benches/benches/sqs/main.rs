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
mod load;
mod omniqueue_sqs;
mod ruststream_sqs;
mod table;
mod towpath_queue;

use std::{
    env,
    process::{ExitCode, Stdio},
};

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use clap::{Parser, ValueEnum};
use tokio::process::Command;

use counter::Counter;
use hand_written::Content;
use load::{Figures, Load};

type Error = Box<dyn std::error::Error + Send + Sync>;

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
    queue_url: Option<String>,
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
            Self::Towpath => towpath_queue::run(load, towpath_queue::Style::Batches).await,
            Self::TowpathSingle => towpath_queue::run(load, towpath_queue::Style::Single).await,
            Self::Omniqueue => omniqueue_sqs::run(load, true).await,
            Self::OmniqueueSingle => omniqueue_sqs::run(load, false).await,
            Self::Ruststream => ruststream_sqs::run(load).await,
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    match runtime.block_on(run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Error> {
    if options.tasks == 0 || options.rounds == 0 || options.body == 0 {
        return Err("--tasks, --rounds and --body are at least 1".into());
    }
    let step = options.tasks * load::BATCH;
    if options.messages == 0 || !options.messages.is_multiple_of(step) {
        return Err(format!(
            "--messages is a multiple of {step}: of {} for each of the {} tasks",
            load::BATCH,
            options.tasks
        )
        .into());
    }
    if let (Some(queue_url), Some(endpoint), [contender]) =
        (&options.queue_url, &options.endpoint, &options.only[..])
    {
        let load = Load {
            endpoint: endpoint.clone(),
            queue_url: queue_url.clone(),
            messages: options.messages,
            tasks: options.tasks,
            body: options.body,
        };
        let figures = contender.run(load).await?;
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    compare(&options).await
}

async fn compare(options: &Options) -> Result<(), Error> {
    let endpoint = options.server.endpoint()?;
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
            let queue = Queue::create(&client, round).await?;
            let before = counter.counts();
            let contender = contenders[place];
            let ran = in_a_process(options, contender, &counter.endpoint, &queue.url).await;
            let requests = counter.counts().since(&before);
            queue.delete().await?;
            let ran = ran?;
            if round > 0 {
                rows[place].rounds.push((ran, requests));
            }
        }
        eprintln!("round {round} of {} is done", options.rounds);
    }
    let server = options.server.to_possible_value();
    let server = server.as_ref().map_or("", |value| value.get_name());
    table::print(server, options.messages, &rows);
    Ok(())
}

/// Runs a contender in a process of its own.
async fn in_a_process(
    options: &Options,
    contender: Contender,
    endpoint: &str,
    queue_url: &str,
) -> Result<Figures, Error> {
    let output = Command::new(env::current_exe()?)
        .args(["--only", &contender.name()])
        .args(["--messages", &options.messages.to_string()])
        .args(["--tasks", &options.tasks.to_string()])
        .args(["--body", &options.body.to_string()])
        .args(["--endpoint", endpoint])
        .args(["--queue-url", queue_url])
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", endpoint)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", contender.name(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
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

/// A queue of one run.
struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    async fn create(client: &Client, round: usize) -> Result<Self, Error> {
        let name = format!("towpath-bench-{}-{round}", std::process::id());
        let created = client.create_queue().queue_name(name).send().await?;
        let url = created.queue_url.ok_or("the new queue has no URL")?;
        let client = client.clone();
        Ok(Self { client, url })
    }

    async fn delete(&self) -> Result<(), Error> {
        self.client
            .delete_queue()
            .queue_url(&self.url)
            .send()
            .await?;
        Ok(())
    }
}
