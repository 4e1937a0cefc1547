//! `towpath`: send, receive, check, provision and migrate, on any queue.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

mod commands;
mod confirm;
mod output;
mod queue;
mod signal;

use commands::{
    bench, check, completions, config, conformance, depth, dlq, migrate, provision, purge, receive,
    send,
};

/// Operate message queues on any cloud, named by a URL or by their name in towpath.toml.
///
/// A queue is written as a URL (sqs://orders?region=eu-central-1, pubsub://my-project/orders,
/// memory://orders) or as a name from the configuration file.
///
/// To begin: `towpath provision QUEUE` shows what would be created, `towpath check QUEUE` what is
/// wrong with it, `towpath send QUEUE BODY` and `towpath receive QUEUE --count 1` send and look.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The configuration file with named queues [default: towpath.toml, where it is there]
    #[arg(long, global = true, env = "TOWPATH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The profile of the configuration file
    #[arg(long, global = true, env = "TOWPATH_PROFILE", value_name = "NAME")]
    profile: Option<String>,
    /// The form of the output
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    output: output::Form,
    /// Whether to use colours [default: on a terminal, unless NO_COLOR is set]
    #[arg(long, global = true, value_enum, value_name = "WHEN")]
    color: Option<output::Color>,
    /// Say more on stderr (-v what is done, -vv all details); RUST_LOG overrides
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Send messages from arguments, a file, or standard input
    Send(send::Args),
    /// Receive messages and print them; they stay in the queue unless --ack
    #[command(visible_alias = "tail")]
    Receive(receive::Args),
    /// Show how many messages wait, are leased, are delayed
    Depth(depth::Args),
    /// Compare a queue's real settings with what the configuration needs
    Check(check::Args),
    /// Create a queue and its dead-letter queue: shows a plan, then --apply
    Provision(provision::Args),
    /// List, show, redrive, edit or discard what is in a dead-letter queue
    Dlq(dlq::Args),
    /// Move all messages from one queue to another, also between clouds
    Migrate(migrate::Args),
    /// Remove all messages of a queue
    Purge(purge::Args),
    /// Measure rate, latency, requests and their price
    Bench(bench::Args),
    /// Run the conformance tests against a cloud or server; creates and deletes queues
    Conformance(conformance::Args),
    /// Show the configured queues and where each setting comes from
    Config(config::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    output::use_color(cli.global.color);
    start_logging(cli.global.verbose);
    let result = run(cli).await;
    match result {
        Ok(code) => code,
        Err(error) if error.is::<output::ClosedPipe>() => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(2)
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Send(args) => send::run(global, args).await,
        Command::Receive(args) => receive::run(global, args).await,
        Command::Depth(args) => depth::run(global, args).await,
        Command::Check(args) => check::run(global, args).await,
        Command::Provision(args) => provision::run(global, args).await,
        Command::Dlq(args) => dlq::run(global, args).await,
        Command::Migrate(args) => migrate::run(global, args).await,
        Command::Purge(args) => purge::run(global, args).await,
        Command::Bench(args) => bench::run(global, args).await,
        Command::Conformance(args) => conformance::run(global, args).await,
        Command::Config(args) => config::run(global, &args),
        Command::Completions(args) => {
            completions::run(&args, <Cli as clap::CommandFactory>::command())
        }
    }
}

fn start_logging(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output::log)
        .with_ansi(output::is_colored_err())
        .init();
}
