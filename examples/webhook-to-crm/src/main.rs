//! `webhook-to-crm`: see the crate's documentation, or `--help`.

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use reqwest::Url;
use tokio_util::sync::CancellationToken;
use towpath::{
    QueueConfig,
    webhook::{Secret, signature::Key},
    worker::shutdown_signal,
};
use webhook_to_crm::{
    crm::Crm,
    events::{Expect, Line, TimestampForm, generate},
    replay,
    serve::{Running, Setup, listen},
};

/// Receives Mailgun webhooks and contact forms, queues them, and writes them to a CRM.
///
/// Without a subcommand it serves until Ctrl-C, with a fake CRM in the same process, and prints
/// lines to try it with. With --events it posts a file of events to itself; with
/// --exit-when-drained it ends when all of them are settled, with a ledger.
#[derive(Parser)]
#[command(version, max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Run only the fake CRM
    Crm {
        /// Where it listens
        #[arg(long, default_value = "127.0.0.1:8081")]
        listen: SocketAddr,
        /// The file that it keeps its ledger in [default: memory]
        #[arg(long, value_name = "FILE")]
        ledger: Option<PathBuf>,
    },
    /// Print made-up Mailgun events, one a line
    GenerateEvents {
        /// The same seed makes the same events
        #[arg(long, default_value_t = 7)]
        seed: u64,
        /// How many
        #[arg(long, default_value_t = 1_200)]
        count: usize,
    },
}

#[derive(clap::Args)]
struct Serve {
    /// The queue of events, by its URL; swap the cloud here
    #[arg(
        long,
        env = "TOWPATH_QUEUE_URL",
        value_name = "URL",
        default_value = "memory://mailgun-events?max_attempts=8&dead_letter=mailgun-events-dlq"
    )]
    queue: QueueConfig,
    /// The queue of updates to the CRM [default: named after --queue, with -crm at the end]
    #[arg(long, value_name = "URL")]
    updates_queue: Option<QueueConfig>,
    /// Where the receiver listens [default: 127.0.0.1:8080, with --events any free port]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The CRM to write to [default: a fake one in this process]
    #[arg(long, value_name = "URL")]
    crm: Option<Url>,
    /// The file that the fake CRM keeps its ledger in [default: memory]
    #[arg(long, value_name = "FILE", conflicts_with = "crm")]
    crm_ledger: Option<PathBuf>,
    /// Where the operator's page listens [default: 127.0.0.1:9180, with --events nowhere]
    #[arg(long, value_name = "ADDRESS")]
    ops: Option<SocketAddr>,
    /// Mailgun's webhook signing key
    #[arg(long, env = "MAILGUN_SIGNING_KEY", hide_env_values = true, default_value = "demo-signing-key", hide_default_value = true, value_parser = key, value_name = "KEY")]
    signing_key: Secret,
    /// The file in which events wait while their queue cannot be reached, and survive a crash
    /// [default: none; then the answer is 503]
    #[arg(long, value_name = "FILE")]
    spool: Option<PathBuf>,
    /// The delay before the first retry; it grows up to a minute
    #[arg(long, default_value = "500ms", value_name = "DURATION", value_parser = humantime::parse_duration)]
    first_retry: Duration,
    /// Post the events of this file to the receiver
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// End when everything from --events is settled, with a ledger; exit code 1 when an event was
    /// lost or an answer was wrong
    #[arg(long, requires = "events")]
    exit_when_drained: bool,
}

fn key(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        Err("the key is empty".to_owned())
    } else {
        Ok(Secret::literal(text))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let default = if cli.serve.exit_when_drained {
        "error"
    } else {
        "info"
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match cli.command {
        None => cli.serve.run().await,
        Some(Command::Crm { listen, ledger }) => run_crm(listen, ledger).await,
        Some(Command::GenerateEvents { seed, count }) => {
            for line in generate(seed, count) {
                say(serde_json::to_string(&line)?)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Serve {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let is_replay = self.events.is_some();
        let fixed = |port| {
            if is_replay {
                any_port
            } else {
                SocketAddr::from(([127, 0, 0, 1], port))
            }
        };
        let key = Key::read(&self.signing_key)?;
        let events = self.events.as_deref().map(replay::read).transpose()?;
        // Caught from here on, so that a Ctrl-C at any time drains.
        let signal = shutdown_signal()?;
        let running = Setup {
            queue: self.queue,
            updates: self.updates_queue,
            listen: self.listen.unwrap_or_else(|| fixed(8080)),
            crm: self.crm,
            crm_listen: fixed(8081),
            crm_ledger: self.crm_ledger,
            ops: self.ops.or_else(|| (!is_replay).then(|| fixed(9180))),
            signing_key: self.signing_key,
            spool: self.spool,
            first_retry: self.first_retry,
        }
        .start()
        .await?;
        if !self.exit_when_drained {
            introduce(&running, &key)?;
        }

        tokio::pin!(signal);
        let mut code = ExitCode::SUCCESS;
        if let Some(lines) = events {
            let replay = replay::run(
                &lines,
                &key,
                &running.receiver,
                &running.crm,
                &running.dead_letters,
            );
            // A replay that is interrupted has nothing to lose: what was accepted is in the queue.
            tokio::select! {
                ledger = replay => {
                    let ledger = ledger?;
                    for reason in replay::reasons(&running.dead_letters).await? {
                        say(format_args!("dead letters: {reason}"))?;
                    }
                    say(&ledger)?;
                    if !ledger.is_clean() {
                        code = ExitCode::FAILURE;
                    }
                }
                () = &mut signal => {
                    say("interrupted")?;
                    running.stop().await?;
                    return Ok(ExitCode::from(130));
                }
            }
        }
        if !self.exit_when_drained {
            signal.await;
            if std::io::stderr().is_terminal() {
                say("draining ...")?;
            }
        }
        for (name, report) in running.stop().await? {
            if !self.exit_when_drained {
                say(format_args!("{name}: {report}"))?;
            }
        }
        Ok(code)
    }
}

/// Says where things are, and how to try them.
fn introduce(running: &Running, key: &Key) -> anyhow::Result<()> {
    let Running { receiver, crm, .. } = running;
    for queue in &running.queues {
        say(format_args!("queue      {}", queue.config()))?;
    }
    say(format_args!("receiver   {receiver}"))?;
    say(format_args!("CRM        {crm}"))?;
    if let Some(ops) = &running.ops {
        say(format_args!("ops page   {ops}"))?;
    }
    let event = Line {
        expect: Expect::Accepted,
        timestamp: TimestampForm::Integer,
        event: serde_json::json!({
            "id": format!("try-{:08x}", fastrand::u32(..)),
            "event": "opened",
            "timestamp": 1_760_000_000.5,
            "recipient": "ana@customer.example",
        }),
    };
    let json = "-H 'content-type: application/json'";
    say(format_args!(
        "\nTry it, in another terminal:\n\n\
         a signed Mailgun event\n  curl -i {receiver}hooks/mailgun {json} -d '{}'\n\
         a contact form\n  curl -i {receiver}forms/contact {json} -d '{}'\n\
         what the CRM has applied\n  curl {crm}ledger\n\
         take the CRM down, send more, and bring it back\n  curl -X PUT {crm}control {json} -d '{}'\n  curl -X PUT {crm}control {json} -d '{}'\n\n\
         Ctrl-C drains and stops.\n",
        replay::webhook(&event, key),
        r#"{"name":"Ana","email":"ana@customer.example","message":"Hello"}"#,
        r#"{"down":true}"#,
        r#"{"down":false}"#,
    ))
}

async fn run_crm(address: SocketAddr, ledger: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let crm = match &ledger {
        Some(path) => Crm::open(path).with_context(|| format!("{}", path.display()))?,
        None => Crm::in_memory(),
    };
    let signal = shutdown_signal()?;
    let stop = CancellationToken::new();
    let (url, task) = listen(address, crm.router(), &stop).await?;
    say(format_args!("CRM        {url}"))?;
    signal.await;
    stop.cancel();
    task.await?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a line to standard output.
fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
