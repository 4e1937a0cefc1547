//! A worker process: this test program, started again with [`ASKED`] in its environment.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Read,
    num::NonZeroUsize,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};
use towpath_core::{
    Attempt, Capabilities, Consumer, ConsumerOptions, FailureClass, Message, Outcome, Registry,
    Result,
    driver::{self, Receipt, Received},
};
use towpath_sqs::Sqs;
use towpath_worker::{Backoff, RetryPolicy, Worker, shutdown_signal};
use uuid::Uuid;

use super::journal::{Journal, What, now};
use crate::support::{Decide, retry};

/// Set in a process that is to be a worker: name, concurrency, drain deadline in milliseconds,
/// journal, queue, between line feeds.
const ASKED: &str = "TOWPATH_TEST_WORKER";

/// The test that becomes the worker.
const ENTRY: &str =
    "process::terminate::a_terminated_worker_finishes_releases_the_rest_and_ends_well";

/// For how many milliseconds the handler works.
pub(super) const WORK: &str = "work";
/// How the handler fails: `always`, or `once` on the first attempt.
pub(super) const FAIL: &str = "fail";

/// Body and attributes, as one number that is the same in every process.
pub(super) fn content(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.body().hash(&mut hasher);
    for attribute in message.attributes().iter() {
        attribute.hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether this process is to be a worker.
pub(super) fn is_asked() -> bool {
    std::env::var_os(ASKED).is_some()
}

/// Works until SIGTERM, prints the report, and panics where it is not balanced.
pub(super) async fn run() {
    let asked = std::env::var(ASKED).unwrap();
    let mut words = asked.split('\n');
    let mut next = || words.next().unwrap();
    let (name, concurrency, drain) = (next(), next().parse().unwrap(), next().parse().unwrap());
    let journal = Arc::new(Journal::open(Path::new(next()), name).unwrap());
    let queue = Registry::new().with(Sqs::new()).open(next()).unwrap();
    let signal = shutdown_signal().unwrap();
    let inner = queue.backend().consumer(queue.config()).await.unwrap();
    let mut options = ConsumerOptions::from_queue_options(queue.config().target(), queue.options());
    let dead = queue.dead_letter().unwrap().unwrap();
    options.dead_letter = Some(dead.producer().await.unwrap());
    let driver = Journaled {
        inner,
        journal: journal.clone(),
    };
    let noted = journal.clone();
    let handler = Decide(move |attempt| handle(noted.clone(), attempt));
    let worker = Worker::builder(Consumer::new(Arc::new(driver), options).unwrap(), handler)
        .concurrency(concurrency)
        .retry(RetryPolicy::new(Backoff::Fixed(Duration::from_secs(1))))
        .drain_deadline(Duration::from_millis(drain))
        .build()
        .unwrap();
    let report = worker
        .run_until(async {
            signal.await;
            journal.note(Uuid::nil(), What::Draining);
        })
        .await;
    println!("report: {report}");
    assert!(report.is_balanced(), "{report}");
    assert!(report.close_error.is_none(), "{report:?}");
}

async fn handle(journal: Arc<Journal>, attempt: Attempt) -> Outcome {
    let message = &attempt.envelope().message;
    let key = message.idempotency_key();
    journal.note(key, What::Started);
    let work = message.attributes().get(WORK).unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_millis(work)).await;
    match message.attributes().get(FAIL) {
        Some("always") => {
            return Outcome::DeadLetter {
                class: FailureClass::Permanent,
                reason: "it cannot succeed".to_owned(),
            };
        }
        Some("once") if attempt.number() == Some(1) => return retry("not yet"),
        _ => {}
    }
    journal.note(key, What::Effect);
    Outcome::Ack
}

/// Notes in the journal what the driver is told and answers.
#[derive(Debug)]
struct Journaled {
    inner: Arc<dyn driver::Consumer>,
    journal: Arc<Journal>,
}

/// The driver's receipt, and the message that it is for.
struct Labelled {
    key: Uuid,
    receipt: Receipt,
}

fn labels(receipts: &[Receipt]) -> (Vec<Uuid>, Vec<Receipt>) {
    let labelled = receipts.iter().map(|r| r.object::<Labelled>().unwrap());
    labelled.map(|l| (l.key, l.receipt.clone())).unzip()
}

impl Journaled {
    fn note(&self, keys: &[Uuid], what: impl Fn(usize) -> What) {
        let events = keys.iter().enumerate().map(|(i, key)| (*key, what(i)));
        let events: Vec<_> = events.collect();
        self.journal.note_all(&events);
    }
}

#[async_trait]
impl driver::Consumer for Journaled {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let asked = now();
        let mut batch = self.inner.receive(max, wait).await?;
        if batch.is_empty() {
            return Ok(batch);
        }
        let lease = self.capabilities().lease.duration().unwrap();
        let until = now() + u64::try_from(lease.as_micros()).unwrap();
        let mut events = Vec::with_capacity(batch.len());
        for received in &mut batch {
            let message = &received.envelope.message;
            let key = message.idempotency_key();
            let content = content(message);
            let what = What::Received {
                content,
                until,
                asked,
            };
            events.push((key, what));
            received.receipt = Receipt::new(Labelled {
                key,
                receipt: received.receipt.clone(),
            });
        }
        self.journal.note_all(&events);
        Ok(batch)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        let (keys, receipts) = labels(receipts);
        let results = self.inner.ack(&receipts).await;
        self.note(&keys, |i| match results[i] {
            Ok(()) => What::Acked,
            Err(_) => What::Refused,
        });
        results
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        let (keys, receipts) = labels(receipts);
        // Before it, so that nobody can have been handed the message yet.
        self.note(&keys, |_| What::Nacked);
        self.inner.nack(&receipts, delay).await
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        let (keys, receipts) = labels(receipts);
        let until = now() + u64::try_from(lease.as_micros()).unwrap();
        let results = self.inner.extend(&receipts, lease).await;
        for (key, result) in keys.iter().zip(&results) {
            if result.is_ok() {
                self.journal.note(*key, What::Extended { until });
            }
        }
        results
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// A worker process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    child: Child,
}

impl Process {
    /// `settings`: concurrency and drain deadline in milliseconds.
    pub(super) fn start(url: &str, journal: &Path, name: String, settings: &str) -> Self {
        let settings = settings.replace(' ', "\n");
        let asked = format!("{name}\n{settings}\n{}\n{url}", journal.display());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", ENTRY, "--nocapture", "--test-threads=1"])
            .env(ASKED, asked)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { name, child }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.code().is_none(), "it had ended before: {status}");
        std::mem::take(&mut self.name)
    }

    /// Whether it runs. Panics where it ended by itself.
    pub(super) fn assert_runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} ended by itself: {ended:?}", self.name);
    }

    /// Waits for its end, for a minute at most.
    pub(super) async fn ended(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{} did not end within a minute",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let mut output = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut output).unwrap();
        let line = output.lines().find_map(|line| line.split_once("report: "));
        let report = line.map(|(_, report)| report.to_owned());
        Ended {
            status,
            report: report.unwrap_or_else(|| panic!("{} printed no report: {output}", self.name)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a worker process ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) report: String,
}

impl Ended {
    /// A figure of the report; those that are zero are left out of it.
    pub(super) fn figure(&self, name: &str) -> usize {
        let mut words = self
            .report
            .split(' ')
            .filter_map(|word| word.split_once('='));
        words
            .find(|(word, _)| *word == name)
            .map_or(0, |(_, figure)| figure.parse().unwrap())
    }
}
