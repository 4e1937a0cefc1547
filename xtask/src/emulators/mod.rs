//! The local servers that speak the clouds' own protocols.
//!
//! Each has a file of its own that installs it and gives the command that starts it. They listen
//! on loopback only, each on a free port, and are left running by `up`; what runs is written to a
//! file, so that `down` ends just those.

mod elasticmq;
mod fauxqs;
mod google;
mod instance;
mod probe;
mod pstest;
mod redis;
mod state;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use crate::tools::Tools;

pub(crate) use instance::Instance;
pub(crate) use state::environment;

/// What `cargo xtask emulators` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install and start the servers, and print the environment that tests find them by
    Up {
        /// Start only these
        #[arg(long, value_enum, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
        only: Vec<Server>,
        /// Print the environment as a JSON object instead of shell lines
        #[arg(long)]
        json: bool,
    },
    /// Stop the servers that `up` started
    Down,
    /// Show which servers run and whether they answer
    Status,
}

/// A server that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// Pub/Sub, Google's own emulator
    // First, because it is the one that can be missing: that is told before anything is installed.
    Google,
    /// SQS, in Node.js
    Fauxqs,
    /// SQS, in Scala
    #[value(name = "elasticmq")]
    ElasticMq,
    /// Pub/Sub, Google's fake for the tests of its Go client
    Pstest,
    /// Redis, for an example
    Redis,
}

/// The protocol that a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Sqs,
    PubSub,
    Redis,
}

impl Protocol {
    /// What an address begins with.
    fn scheme(self) -> &'static str {
        match self {
            Self::Sqs | Self::PubSub => "http",
            Self::Redis => "redis",
        }
    }
}

impl Server {
    /// Every server there is.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// These servers, less Google's emulator where it is not installed, which is said then: no
    /// package registry has it, so tests do without it.
    ///
    /// # Errors
    ///
    /// When an emulator is named that is not there.
    pub(crate) fn available(wanted: &[Self]) -> Result<Vec<Self>> {
        let mut available = wanted.to_vec();
        if available.contains(&Self::Google) && google::is_missing()? {
            available.retain(|server| *server != Self::Google);
            say!(
                "warning: the tests on Google's Pub/Sub emulator are left out.\n{}",
                google::missing()
            );
        }
        Ok(available)
    }

    /// The arguments of test programs that leave out the tests of what is wanted but not available.
    pub(crate) fn leaving_out(wanted: &[Self], available: &[Self]) -> &'static [&'static str] {
        if wanted.contains(&Self::Google) && !available.contains(&Self::Google) {
            // So all tests are named that need it.
            &["--skip", "gcloud"]
        } else {
            &[]
        }
    }

    /// The name on the command line, in the state file and of the log.
    fn name(self) -> &'static str {
        match self {
            Self::Fauxqs => "fauxqs",
            Self::ElasticMq => "elasticmq",
            Self::Google => "google",
            Self::Pstest => "pstest",
            Self::Redis => "redis",
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Fauxqs | Self::ElasticMq => Protocol::Sqs,
            Self::Google | Self::Pstest => Protocol::PubSub,
            Self::Redis => Protocol::Redis,
        }
    }

    /// The variable that tells tests the address.
    fn variable(self) -> &'static str {
        match self {
            Self::Fauxqs => "TOWPATH_FAUXQS_ENDPOINT",
            Self::ElasticMq => "TOWPATH_ELASTICMQ_ENDPOINT",
            Self::Google => "TOWPATH_PUBSUB_EMULATOR_ENDPOINT",
            Self::Pstest => "TOWPATH_PSTEST_ENDPOINT",
            Self::Redis => "TOWPATH_REDIS_ENDPOINT",
        }
    }

    /// Installs the server where needed and says how to start it.
    fn install(self, tools: &Tools) -> Result<Box<dyn Program>> {
        Ok(match self {
            Self::Fauxqs => Box::new(fauxqs::Fauxqs::install(tools)?),
            Self::ElasticMq => Box::new(elasticmq::ElasticMq::install(tools)?),
            Self::Google => Box::new(google::Emulator::install(tools)?),
            Self::Pstest => Box::new(pstest::Pstest::install(tools)?),
            Self::Redis => Box::new(redis::Redis::install()?),
        })
    }
}

/// An installed server.
trait Program {
    /// What distinguishes it from another version: a server started from another one is not used
    /// again.
    fn version(&self) -> &str;

    /// The command that serves on this loopback port until it is told to end. `folder` is the
    /// server's own, for files that it needs; it is the command's current folder as well.
    ///
    /// # Errors
    ///
    /// When such a file cannot be written.
    fn command(&self, port: u16, folder: &std::path::Path) -> Result<std::process::Command>;

    /// Whether it is kept to one core, so that the tests have the others.
    fn takes_one_core(&self) -> bool {
        false
    }

    /// What tests are told beside the address, by variable.
    fn environment(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// Runs a subcommand.
///
/// # Errors
///
/// When a server cannot be installed, started or stopped.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    let tools = Tools::open()?;
    let instance = Instance::shared(&tools);
    match command {
        Command::Up { only, json } => {
            let wanted = if only.is_empty() {
                Server::all()
            } else {
                &only
            };
            let running = instance.up(&tools, wanted)?;
            let environment = environment(&running);
            if json {
                println!("{}", serde_json::to_string_pretty(&environment)?);
            } else {
                print!("{}", state::shell_lines(&environment));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Down => {
            instance.down(&tools)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Status => {
            let mut healthy = true;
            for server in Server::all() {
                let (line, fine) = instance.status(*server)?;
                println!("{line}");
                healthy &= fine;
            }
            Ok(if healthy {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}
