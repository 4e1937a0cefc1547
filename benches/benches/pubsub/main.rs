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
mod load;
mod omniqueue_pubsub;
mod ruststream_pubsub;
mod table;
mod towpath_queue;

use std::{
    env,
    process::{ExitCode, Stdio},
};

use clap::{Parser, ValueEnum};
use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_pubsub::client::{SubscriptionAdmin, TopicAdmin};
use tokio::process::Command;

use hand_written::Content;
use load::{Figures, Load};

type Error = Box<dyn std::error::Error + Send + Sync>;

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
            Self::Towpath => towpath_queue::run(load, towpath_queue::Style::Batches).await,
            Self::TowpathSingle => towpath_queue::run(load, towpath_queue::Style::Single).await,
            Self::Omniqueue => omniqueue_pubsub::run(load).await,
            Self::Ruststream => ruststream_pubsub::run(load).await,
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
    if let (Some(queue), [contender]) = (&options.queue, &options.only[..]) {
        let load = Load {
            endpoint: options.endpoint.clone(),
            queue: queue.clone(),
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
            let ran = in_a_process(options, *contender, &queue.name).await;
            queue.delete().await?;
            row.rounds.push(ran?);
        }
        eprintln!("round {round} of {} is done", options.rounds);
    }
    table::print(options.messages, &rows);
    Ok(())
}

/// Runs a contender in a process of its own.
async fn in_a_process(
    options: &Options,
    contender: Contender,
    queue: &str,
) -> Result<Figures, Error> {
    let host = options.endpoint.trim_start_matches("http://");
    let output = Command::new(env::current_exe()?)
        .args(["--only", &contender.name()])
        .args(["--messages", &options.messages.to_string()])
        .args(["--tasks", &options.tasks.to_string()])
        .args(["--body", &options.body.to_string()])
        .args(["--endpoint", &options.endpoint])
        .args(["--queue", queue])
        // omniqueue can be told in no other way.
        .env("PUBSUB_EMULATOR_HOST", host)
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

/// No credentials, as local servers want them.
fn nobody() -> Credentials {
    anonymous::Builder::new().build()
}

/// A topic and a subscription of one run.
struct Queue {
    topics: TopicAdmin,
    subscriptions: SubscriptionAdmin,
    name: String,
}

impl Queue {
    async fn create(endpoint: &str, name: String) -> Result<Self, Error> {
        let topics = TopicAdmin::builder()
            .with_endpoint(endpoint)
            .with_credentials(nobody());
        let topics = topics.build().await?;
        let subscriptions = SubscriptionAdmin::builder()
            .with_endpoint(endpoint)
            .with_credentials(nobody());
        let subscriptions = subscriptions.build().await?;
        let topic = load::topic(&name);
        topics.create_topic().set_name(&topic).send().await?;
        subscriptions
            .create_subscription()
            .set_name(load::subscription(&name))
            .set_topic(&topic)
            .set_ack_deadline_seconds(60)
            .send()
            .await?;
        Ok(Self {
            topics,
            subscriptions,
            name,
        })
    }

    async fn delete(&self) -> Result<(), Error> {
        let deletion = self.subscriptions.delete_subscription();
        let name = load::subscription(&self.name);
        deletion.set_subscription(name).send().await?;
        let deletion = self.topics.delete_topic();
        deletion.set_topic(load::topic(&self.name)).send().await?;
        Ok(())
    }
}
