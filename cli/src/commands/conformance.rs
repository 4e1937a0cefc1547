use std::{
    collections::VecDeque,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::Serialize;
use towpath::QueueConfig;
use towpath_conformance::{
    Case, Counts, Outcome, Report, Run, Suite, Timing, UrlHarness, cases, markdown,
};

mod leftovers;

use crate::{Global, confirm, output, signal};
use leftovers::{Leftovers, Noted};
use output::Paint;

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
    /// Delete the queues that killed runs left behind, as noted in the folder --leftovers
    #[arg(long, conflicts_with = "list")]
    sweep: bool,
    /// With --sweep: only queues that are at least this old
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// The folder in which each run notes the queues that it has not deleted yet, in a file
    /// towpath-conformance-..leftovers
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    leftovers: PathBuf,
    /// Only the cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Do not ask before queues are created, or deleted by --sweep
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
        return chosen
            .iter()
            .try_for_each(|case| list(global, case))
            .map(|()| ExitCode::SUCCESS);
    }
    if args.sweep {
        return sweep(global, &args).await;
    }
    let url = template(args.url.as_deref().unwrap_or_default())?;
    towpath::registry().open_config(QueueConfig::parse(&url.replace("{name}", "towpath-ct"))?)?;
    let announcement = format!(
        "{} cases at {url}: each creates one to three queues named towpath-ct-.. and deletes them; \
         about {} requests in all.",
        chosen.len(),
        chosen.len() * REQUESTS_PER_CASE
    );
    if args.yes {
        output::tell(&announcement);
    }
    confirm::ask(&announcement, "nothing was created", args.yes).await?;

    let leftovers = Arc::new(Leftovers::begin(&args.leftovers)?);
    let reports = test(&url, &args, chosen, leftovers.clone()).await;
    let left = leftovers.end();
    if left > 0 {
        output::tell(format_args!(
            "{left} queues were not deleted; they are noted in {}, and --sweep deletes them",
            leftovers.path().display()
        ));
    }
    let found = Found {
        server: server(&url),
        run: reports?,
    };
    show(global, &found)?;
    for (path, text) in [
        (&args.json, serde_json::to_string_pretty(&found)?),
        (&args.markdown, markdown(std::slice::from_ref(&found.run))),
    ] {
        if let Some(path) = path {
            std::fs::write(path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(if found.run.counts().failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was found, and where.
#[derive(Serialize)]
struct Found {
    server: String,
    #[serde(flatten)]
    run: Run,
}

async fn test(
    url: &str,
    args: &Args,
    chosen: Vec<Case>,
    leftovers: Arc<Leftovers>,
) -> anyhow::Result<Run> {
    let suite = Suite::new(Noted {
        harness: harness(url, args),
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
    Ok(Run::new(name, run_all(suite, chosen).await?))
}

/// Deletes what killed runs left behind.
async fn sweep(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let runs = Leftovers::of_ended_runs(&args.leftovers)?;
    let noted: Vec<(&Leftovers, String)> = runs
        .iter()
        .flat_map(|run| {
            run.queues(args.older_than)
                .into_iter()
                .map(move |url| (run, url))
        })
        .collect();
    if !noted.is_empty() && !args.yes {
        for (_, url) in &noted {
            output::line(url)?;
        }
    }
    if !noted.is_empty() {
        let question = format!("{} queues are to be deleted.", noted.len());
        confirm::ask(&question, "nothing was deleted", args.yes).await?;
    }
    let bar = output::progress(Some(noted.len() as u64), "deleting");
    let mut failed = 0;
    for (run, url) in &noted {
        match run.sweep(url).await {
            Ok(()) if global.output == output::Form::Json => {
                output::json(&serde_json::json!({ "deleted": url }))?;
            }
            Ok(()) => output::line(format_args!("deleted {url}"))?,
            Err(error) => {
                output::print_error(&error);
                failed += 1;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for run in &runs {
        run.end();
    }
    output::note(format_args!("{} queues deleted", noted.len() - failed));
    ensure!(
        failed == 0,
        "{failed} queues could not be deleted; they stay noted in {}",
        args.leftovers.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Which server answers: what the URL says, else what the cloud's own variables say, else the cloud.
fn server(url: &str) -> String {
    let option = |name: &str| {
        let config = QueueConfig::parse(&url.replace("{name}", "x")).ok()?;
        config.option(name).map(str::to_owned)
    };
    let variable = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| std::env::var(name).ok());
        values.find(|value| !value.is_empty())
    };
    let scheme = url.split_once("://").map_or(url, |(scheme, _)| scheme);
    let elsewhere = option("endpoint").or_else(|| match scheme {
        "sqs" => variable(&["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"]),
        "pubsub" => variable(&["PUBSUB_EMULATOR_HOST"]),
        _ => None,
    });
    elsewhere.unwrap_or_else(|| match scheme {
        "sqs" => option("region")
            .or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .map_or("aws".to_owned(), |region| format!("aws/{region}")),
        "pubsub" => "google".to_owned(),
        _ => "in-process".to_owned(),
    })
}

fn list(global: &Global, case: &Case) -> anyhow::Result<()> {
    match global.output {
        output::Form::Json => output::json(&serde_json::json!({ "case": case.path() })),
        output::Form::Human => output::line(case.path()),
    }
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
    let timing = match scheme {
        // Its shortest lease, also where the server is on this machine.
        "pubsub" => timing.with_lease(Duration::from_secs(10)),
        _ => timing,
    };
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

fn show(global: &Global, found: &Found) -> anyhow::Result<()> {
    if global.output == output::Form::Json {
        return output::json(found);
    }
    let run = &found.run;
    for report in &run.reports {
        let why = match &report.outcome {
            Outcome::Ignored { reason } | Outcome::Deviation { reason, .. } => reason,
            Outcome::Failed { failure } => failure,
            _ => continue,
        };
        let word = format!("{:9}", report.outcome.as_str());
        let word = match report.outcome {
            Outcome::Failed { .. } => output::paint(&word, Paint::Red),
            _ => output::paint(&word, Paint::Yellow),
        };
        output::line(format_args!("{word} {}: {why}", report.case.path()))?;
    }
    let Counts {
        passed,
        ignored,
        deviations,
        failed,
        ..
    } = run.counts();
    output::line(format_args!(
        "backend={} server={} cases={} passed={passed} ignored={ignored} deviations={deviations} \
         failed={failed}",
        run.backend.replace(' ', "_"),
        found.server,
        run.reports.len()
    ))
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

    #[test]
    fn the_server_is_what_the_url_says() {
        for (url, wanted) in [
            ("memory://{name}", "in-process"),
            (
                "sqs://{name}?endpoint=http://127.0.0.1:9324",
                "http://127.0.0.1:9324",
            ),
            (
                "pubsub://p/{name}?endpoint=http://127.0.0.1:8085",
                "http://127.0.0.1:8085",
            ),
        ] {
            assert_eq!(server(url), wanted);
        }
    }
}
