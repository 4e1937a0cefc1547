use std::{
    collections::VecDeque,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use towpath::QueueConfig;
use towpath_conformance::{Case, Outcome, Report, Run, Suite, Timing, UrlHarness, cases, markdown};

mod leftovers;

use crate::{Global, output, signal};
use leftovers::{Leftovers, Noted};

/// How many cases run at once: they mostly wait.
const AT_ONCE: usize = 16;
/// About how many requests a case makes at a cloud, as measured on local servers.
const REQUESTS_PER_CASE: usize = 40;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to test: a URL with {name} in place of the queue's name, or any queue's URL, whose
    /// last part is then replaced. That queue itself is not touched
    #[arg(long, value_name = "URL", required_unless_present_any = ["list", "sweep"])]
    url: Option<String>,
    /// Name the cases, one a line
    #[arg(long)]
    list: bool,
    /// Delete the queues that a killed run left behind, as noted in --leftovers
    #[arg(long, conflicts_with = "list")]
    sweep: bool,
    /// With --sweep: only queues that are at least this old
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Where the queues are noted that are not deleted yet
    #[arg(
        long,
        value_name = "FILE",
        default_value = "towpath-conformance.leftovers"
    )]
    leftovers: PathBuf,
    /// Only the cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Do not ask before queues are created
    #[arg(long)]
    yes: bool,
    /// How time passes: a cloud is given more slack than a server on this machine
    #[arg(long, value_enum, default_value_t = Pace::Cloud)]
    pace: Pace,
    /// How the names of queues must end, e.g. .fifo
    #[arg(long, value_name = "SUFFIX", default_value = "")]
    suffix: String,
    /// Accept what this file lists as known deviations
    #[arg(long, value_name = "FILE")]
    deviations: Option<PathBuf>,
    /// Write a table of what holds
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write what was found, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pace {
    /// The paused clock of tests, for memory://
    Paused,
    /// Servers on this machine
    Local,
    /// Real clouds
    Cloud,
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let filter = args.filter.clone().unwrap_or_default();
    let chosen: Vec<Case> = cases()
        .into_iter()
        .filter(|case| case.path().contains(&filter))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no case has {filter:?} in its name; --list shows the names"
    );
    if args.list {
        return chosen.iter().try_for_each(list).map(|()| ExitCode::SUCCESS);
    }
    let leftovers = Arc::new(Leftovers::open(&args.leftovers)?);
    if args.sweep {
        let swept = leftovers.sweep(args.older_than).await?;
        output::note(format_args!("{swept} queues deleted"));
        return Ok(ExitCode::SUCCESS);
    }
    let url = template(args.url.as_deref().unwrap_or_default())?;
    towpath::registry().open_config(QueueConfig::parse(&url.replace("{name}", "towpath-ct"))?)?;
    announce(&url, chosen.len(), args.yes)?;

    leftovers.check()?;
    let suite = Suite::new(Noted {
        harness: harness(&url, &args),
        leftovers,
    });
    let suite = match &args.deviations {
        Some(path) => suite.with_deviations(
            &std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
        ),
        None => suite,
    };
    let name = suite.name().to_owned();
    let reports = run_all(suite, chosen).await?;
    let run = Run::new(name, reports);
    show(global, &run)?;
    for (path, text) in [
        (&args.json, serde_json::to_string_pretty(&run)?),
        (&args.markdown, markdown(std::slice::from_ref(&run))),
    ] {
        if let Some(path) = path {
            std::fs::write(path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(if run.counts().failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list(case: &Case) -> anyhow::Result<()> {
    output::line(format_args!("{}", case.path()))
}

/// The URL with `{name}` in place of the queue's name.
fn template(url: &str) -> anyhow::Result<String> {
    if url.contains("{name}") {
        return Ok(url.to_owned());
    }
    let config = QueueConfig::parse(url)?;
    let target = match config.target().rsplit_once('/') {
        Some((parent, _)) => format!("{parent}/{{name}}"),
        None => "{name}".to_owned(),
    };
    let config = config
        .without_option("dead_letter")
        .without_option("max_attempts")
        .without_option("subscription");
    let text = config.with_target("{name}").to_string();
    Ok(text.replacen("{name}", &target, 1))
}

fn harness(url: &str, args: &Args) -> UrlHarness {
    let timing = match args.pace {
        Pace::Paused => Timing::paused(),
        Pace::Local => Timing::local(),
        Pace::Cloud => Timing::cloud(),
    };
    let scheme = url.split_once("://").map_or(url, |(scheme, _)| scheme);
    let harness = UrlHarness::new(scheme, towpath::registry, url)
        .with_timing(timing)
        .with_suffix(args.suffix.clone());
    match scheme {
        // Opening a queue in memory creates it, unless told otherwise.
        "memory" => harness.with_missing_option("create", "false"),
        _ if url.contains("endpoint=") => harness.with_endpoint_option("endpoint"),
        _ => harness,
    }
}

/// Says what is to happen, and asks.
fn announce(url: &str, cases: usize, yes: bool) -> anyhow::Result<()> {
    let mut err = std::io::stderr().lock();
    writeln!(
        err,
        "{cases} cases at {url}: each creates one to three queues named towpath-ct-.. and deletes them; \
         about {} requests in all",
        cases * REQUESTS_PER_CASE
    )?;
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("say --yes to create these queues without being asked");
    }
    write!(err, "go on? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    ensure!(
        answer.trim().eq_ignore_ascii_case("y"),
        "nothing was created"
    );
    Ok(())
}

/// Runs the cases side by side. After Ctrl-C no case is begun; those under way end and clean up.
async fn run_all(suite: Suite, chosen: Vec<Case>) -> anyhow::Result<Vec<Report>> {
    let bar = output::progress(Some(chosen.len() as u64), "testing");
    let waiting = Arc::new(Mutex::new(VecDeque::from(chosen)));
    let is_stopped = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (suite, waiting, is_stopped, bar) = (
                suite.clone(),
                waiting.clone(),
                is_stopped.clone(),
                bar.clone(),
            );
            tokio::task::spawn_blocking(move || {
                let mut reports = Vec::new();
                while !is_stopped.load(Ordering::Relaxed) {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(case) = next else { break };
                    reports.push(suite.run(case));
                    bar.inc(1);
                }
                reports
            })
        })
        .collect();
    let watching = tokio::spawn(async move {
        signal::stopped().await;
        is_stopped.store(true, Ordering::Relaxed);
        output::note("stopping: the cases under way end and clean up");
    });
    let mut reports = Vec::new();
    for thread in threads {
        reports.extend(thread.await?);
    }
    bar.finish_and_clear();
    let left = waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
    ensure!(left == 0, "stopped: {left} cases were not run");
    watching.abort();
    Ok(reports)
}

fn show(global: &Global, run: &Run) -> anyhow::Result<()> {
    if global.output == output::Form::Json {
        output::json(run)?;
        return Ok(());
    }
    for report in &run.reports {
        let why = match &report.outcome {
            Outcome::Ignored { reason } | Outcome::Deviation { reason, .. } => reason,
            Outcome::Failed { failure } => failure,
            _ => continue,
        };
        output::line(format_args!(
            "{:9} {}: {why}",
            report.outcome.as_str(),
            report.case.path()
        ))?;
    }
    output::line(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_queue_becomes_a_place() {
        for (url, wanted) in [
            ("memory://orders?profile=sqs", "memory://{name}?profile=sqs"),
            (
                "sqs://{name}?region=eu-west-1",
                "sqs://{name}?region=eu-west-1",
            ),
            (
                "pubsub://my-project/orders?subscription=s",
                "pubsub://my-project/{name}",
            ),
        ] {
            assert_eq!(template(url).unwrap(), wanted);
        }
        assert!(template("orders").is_err());
    }
}
