//! `dlq redrive`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    num::NonZeroU32,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::Notify;
use towpath::{
    Consumer, Producer, Queue,
    worker::{
        Redrive, RedriveFilter,
        redrive::{Fate, RedriveEnd, RedriveReport, Redriven},
    },
};

use super::selection::{self, Place, Selection};
use crate::{Global, confirm, output, queue, signal};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
    /// Only those that were redriven fewer times than this before
    #[arg(long, value_name = "N")]
    max_redrives: Option<u32>,
    /// Send them there, wherever they failed: a URL or a configured name [default: the queue that
    /// they failed in]
    #[arg(long, value_name = "QUEUE")]
    to: Option<String>,
    /// At most this many [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// At most this many per second [default: as fast as it goes]
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Change nothing, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Append a line of JSON about each dead letter that is chosen
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let (from, sources) = args.place.open(global)?;
    let to = args.to.as_ref().map(|to| global.queue(to)).transpose()?;
    ensure!(
        to.is_some() || !sources.is_empty(),
        "{} has no dead_letter and is not the dead_letter of a configured queue, so it is not known \
         where its messages belong; name the target with --to",
        queue::shown(&from)
    );
    let audit = args.audit.as_ref().map(open).transpose()?;
    let total = total(&from, args.limit).await;
    if !args.dry_run {
        let question = question(&from, &sources, to.as_ref(), total);
        confirm::ask(&question, "nothing was redriven", args.yes).await?;
    }

    let bar = output::progress(total, if args.dry_run { "looking" } else { "redriving" });
    let watch = Arc::new(Watch::new(&from, audit, bar, args.dry_run));
    let report = queue::consuming(from.consumer().await?, async |consumer| {
        let redrive = redrive(&args, consumer, &watch);
        let (redrive, targets) = match &to {
            Some(to) => {
                let target = to.producer().await?;
                (redrive.to(target.clone()), vec![target])
            }
            None => with_routes(redrive, &sources).await?,
        };
        let report = redrive.run_until(watch.stopped()).await?;
        for target in targets {
            target.close().await?;
        }
        Ok(report)
    })
    .await;
    watch.bar.finish_and_clear();
    conclude(global, &report?, &watch)
}

/// The redrive as the options say, without a target yet.
fn redrive(args: &Args, consumer: &Consumer, watch: &Arc<Watch>) -> Redrive {
    let selection = args.selection.clone();
    let mut filter = RedriveFilter::new().condition(move |letter| selection.matches(letter));
    if let Some(redrives) = args.max_redrives {
        filter = filter.max_redrives(redrives);
    }
    let watch = watch.clone();
    let redrive = Redrive::new(consumer.clone())
        .filter(filter)
        .dry_run(args.dry_run)
        .limit(args.limit.unwrap_or(u64::MAX))
        .quiet(args.place.idle)
        .audit(move |letter| watch.saw(letter));
    match args.rate {
        Some(rate) => redrive.rate(rate, Duration::from_secs(1)),
        None => redrive,
    }
}

/// A route for each name under which a failure record may know a source.
async fn with_routes(
    mut redrive: Redrive,
    sources: &[Queue],
) -> anyhow::Result<(Redrive, Vec<Producer>)> {
    let mut targets = Vec::new();
    let mut routes = BTreeMap::new();
    for source in sources {
        let target = source.producer().await?;
        for name in selection::names_of(source) {
            // The name that consumers use goes before a short name of another queue.
            if name == source.config().target() || !routes.contains_key(&name) {
                routes.insert(name, target.clone());
            }
        }
        targets.push(target);
    }
    for (name, target) in routes {
        redrive = redrive.route(name, target);
    }
    Ok((redrive, targets))
}

fn open(path: &PathBuf) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}; nothing was redriven", path.display()))
}

/// How many messages there are to go through, where the queue can tell.
async fn total(from: &Queue, limit: Option<u64>) -> Option<u64> {
    let depth = from.admin().await.ok()?.depth().await.ok()?;
    Some(depth.total().min(limit.unwrap_or(u64::MAX)))
}

fn question(from: &Queue, sources: &[Queue], to: Option<&Queue>, total: Option<u64>) -> String {
    let count = total.map_or(String::new(), |total| format!("up to about {total} "));
    let targets = match to {
        Some(to) => queue::shown(to),
        None => {
            let shown: Vec<String> = sources.iter().map(queue::shown).collect();
            shown.join(" or ")
        }
    };
    format!(
        "{count}dead letters of {} are to be sent to {targets}.",
        queue::shown(from)
    )
}

/// Follows a redrive: the bar, the audit file, and what is to be told at the end.
struct Watch {
    from: String,
    is_dry: bool,
    bar: ProgressBar,
    audit: Option<Mutex<File>>,
    seen: Mutex<Seen>,
    audit_failed: Notify,
}

#[derive(Default)]
struct Seen {
    /// What would be redriven, in a dry run.
    chosen: Vec<[String; 5]>,
    /// Where those failed that have no route.
    unrouted: BTreeSet<String>,
    /// The first failure of the audit file.
    audit_error: Option<std::io::Error>,
}

/// A line of the audit file.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    from: &'a str,
    #[serde(flatten)]
    letter: &'a Redriven,
}

impl Watch {
    fn new(from: &Queue, audit: Option<File>, bar: ProgressBar, is_dry: bool) -> Self {
        Self {
            from: from.config().target().to_owned(),
            is_dry,
            bar,
            audit: audit.map(Mutex::new),
            seen: Mutex::default(),
            audit_failed: Notify::new(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, letter: &Redriven) {
        self.bar.inc(1);
        match letter.fate {
            Fate::FilteredOut => return,
            Fate::NoRoute => {
                self.seen().unrouted.insert(letter.origin.clone());
            }
            Fate::WouldRedrive => self.seen().chosen.push([
                letter.idempotency_key.to_string(),
                letter.origin.clone(),
                letter.attempts.to_string(),
                letter.redrives.to_string(),
                output::preview(letter.reason.as_bytes(), 60),
            ]),
            _ => {}
        }
        if let Err(error) = self.write(letter) {
            self.seen().audit_error.get_or_insert(error);
            // What cannot be accounted for is not done.
            self.audit_failed.notify_one();
        }
    }

    fn write(&self, letter: &Redriven) -> std::io::Result<()> {
        let Some(audit) = &self.audit else {
            return Ok(());
        };
        let line = Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            from: &self.from,
            letter,
        };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        // In one call, so that two programs that append to one file do not mix their lines.
        audit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(text.as_bytes())
    }

    async fn stopped(&self) {
        tokio::select! {
            () = signal::stopped() => {}
            () = self.audit_failed.notified() => {}
        }
    }

    /// The sentences for those who have to do something now.
    fn advice(&self, report: &RedriveReport) -> Vec<String> {
        let mut advice = Vec::new();
        let seen = self.seen();
        if seen.unrouted.contains(&self.from) {
            advice.push(
                "some dead letters were parked by the broker itself, without a record of where \
                 they failed; name the target with --to"
                    .to_owned(),
            );
        }
        let elsewhere: Vec<&str> = seen
            .unrouted
            .iter()
            .filter(|origin| **origin != self.from)
            .map(String::as_str)
            .collect();
        if !elsewhere.is_empty() {
            advice.push(format!(
                "some dead letters failed in {} and stay; name that queue, or the target with --to",
                elsewhere.join(", ")
            ));
        }
        if report.not_sent > 0 {
            advice.push(format!(
                "{} could not be sent and stay in the dead-letter queue",
                report.not_sent
            ));
        }
        if report.unacked > 0 {
            advice.push(format!(
                "{} were sent and could not be removed: they are in both queues, with one \
                 idempotency key",
                report.unacked
            ));
        }
        if report.unanswered > 0 {
            advice.push(format!(
                "{} were sent without an answer in time and stay: look whether the target has them, \
                 as the next redrive would send them again, with one idempotency key",
                report.unanswered
            ));
        }
        if report.came_again > 0 {
            advice.push(format!(
                "{} came again after they were redriven, as their removal did not hold; they were \
                 not sent once more, and those that could be removed now are not counted as \
                 unacked. Look whether the dead-letter queue still has them: the next redrive \
                 would send them",
                report.came_again
            ));
        }
        match report.end {
            RedriveEnd::Stopped => {
                advice.push("stopped; the same command goes on with the rest".to_owned());
            }
            RedriveEnd::Held => advice.push(
                "too many dead letters are left out to hold them all, so the rest was not seen; \
                 redrive or discard some of those first"
                    .to_owned(),
            ),
            _ => {}
        }
        advice
    }
}

fn conclude(global: &Global, report: &RedriveReport, watch: &Watch) -> anyhow::Result<ExitCode> {
    match global.output {
        output::Form::Json => output::json(report)?,
        output::Form::Human => {
            let chosen = std::mem::take(&mut watch.seen().chosen);
            if watch.is_dry && !chosen.is_empty() {
                output::table(
                    ["IDEMPOTENCY KEY", "QUEUE", "ATTEMPTS", "REDRIVES", "REASON"],
                    &chosen,
                )?;
            }
            output::line(report)?;
        }
    }
    for advice in watch.advice(report) {
        output::tell(advice);
    }
    if let Some(error) = watch.seen().audit_error.take() {
        return Err(error).context("stopped, because the audit file could not be written");
    }
    let has_failed = report.not_sent > 0
        || report.unacked > 0
        || report.unanswered > 0
        || report.came_again > 0
        || matches!(report.end, RedriveEnd::TargetFailed(_))
        || (report.redriven == 0 && report.no_route > 0);
    Ok(if has_failed {
        ExitCode::FAILURE
    } else if matches!(report.end, RedriveEnd::Stopped) {
        ExitCode::from(signal::INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    })
}
