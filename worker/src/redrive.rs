//! Sending dead letters on: back to where they failed, or elsewhere.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, time::Duration};

use towpath_core::{Consumer, Error, ErrorKind, FailureRecord, Producer, Result};

use crate::layers::Rate;

mod copy;
mod filter;
mod pass;
mod report;

use pass::Pass;

pub use copy::copy;
pub use filter::RedriveFilter;
pub use report::{Fate, RedriveEnd, RedriveReport, Redriven};

/// The most messages in one step, unless the rate is lower.
const BATCH: usize = 100;

/// Sends the messages of a dead-letter queue on: to the queue that they failed in, or to another.
///
/// Each message is sent first and acked then, so a crash in between duplicates it and never loses
/// it. It keeps its body, its attributes, its
/// [idempotency key](towpath_core::Message::idempotency_key) and its failure record, in which
/// `redrives` is one more; its ordering key comes back from there.
///
/// Messages that the filter leaves out are held until the end and released then, so a pass sees
/// each message once. One that comes again although it was sent is not sent once more, and removed
/// at the end; [`Transfer`](crate::transfer::Transfer) says how many are remembered. On a
/// dead-letter queue with ordering, a message that is held back hides the later ones of its key.
///
/// ```
/// # async fn example(queue: towpath_core::Queue) -> towpath_core::Result<()> {
/// use std::{num::NonZeroU32, time::Duration};
/// use towpath_core::FailureClass;
/// use towpath_worker::{Redrive, RedriveFilter};
///
/// let dead = queue.dead_letter()?.expect("a dead-letter queue is configured");
/// let report = Redrive::new(dead.consumer().await?)
///     .route("orders", queue.producer().await?)
///     .filter(RedriveFilter::new().class(FailureClass::AttemptsExhausted).max_redrives(3))
///     .rate(NonZeroU32::new(50).unwrap(), Duration::from_secs(1))
///     .limit(1_000)
///     .run()
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
///
/// It is in this crate and not in core, because it is a small worker: it receives in a loop, heals,
/// paces and reports.
#[must_use = "a redrive does nothing until it is run"]
pub struct Redrive {
    from: Consumer,
    to: Option<Producer>,
    routes: BTreeMap<String, Producer>,
    filter: RedriveFilter,
    limit: u64,
    rate: Option<Rate>,
    /// The most messages in one step.
    batch: usize,
    is_dry: bool,
    most_held: usize,
    quiet: Duration,
    audit: Option<Box<Audit>>,
}

type Audit = dyn Fn(&Redriven) + Send + Sync;

impl Redrive {
    /// A redrive of the dead letters of `from`. It needs [`to`](Self::to) or
    /// [`route`](Self::route).
    pub fn new(from: Consumer) -> Self {
        Self {
            from,
            to: None,
            routes: BTreeMap::new(),
            filter: RedriveFilter::new(),
            limit: u64::MAX,
            rate: None,
            batch: BATCH,
            is_dry: false,
            most_held: 10_000,
            quiet: Duration::from_secs(5),
            audit: None,
        }
    }

    /// Sends every message there, wherever it failed. A [route](Self::route) for its origin goes
    /// first.
    pub fn to(mut self, target: Producer) -> Self {
        self.to = Some(target);
        self
    }

    /// Sends messages that failed in the queue named `origin` there.
    pub fn route(mut self, origin: impl Into<String>, target: Producer) -> Self {
        self.routes.insert(origin.into(), target);
        self
    }

    /// Redrives only what the filter lets through. Default: everything.
    pub fn filter(mut self, filter: RedriveFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Redrives at most so many messages. Default: no limit.
    pub fn limit(mut self, messages: u64) -> Self {
        self.limit = messages;
        self
    }

    /// Redrives at most so many messages per time, so that what failed once is not flooded.
    /// Default: as fast as it goes.
    pub fn rate(mut self, messages: NonZeroU32, period: Duration) -> Self {
        self.rate = Some(Rate::steady(messages, period));
        self.batch = BATCH.min(usize::try_from(messages.get()).unwrap_or(BATCH));
        self
    }

    /// Sends and removes nothing, and only says what would be done.
    pub fn dry_run(mut self, is_dry: bool) -> Self {
        self.is_dry = is_dry;
        self
    }

    /// How many messages are held back at most, before the pass ends. Their bodies are in memory.
    /// Default: 10,000.
    pub fn most_held(mut self, messages: usize) -> Self {
        self.most_held = messages.max(1);
        self
    }

    /// For how long nothing must come before the queue is taken for empty. Default: 5 s.
    pub fn quiet(mut self, time: Duration) -> Self {
        self.quiet = time;
        self
    }

    /// Calls `audit` with what became of each message. The same goes to the log, as an event of
    /// the target `towpath::redrive`.
    pub fn audit(mut self, audit: impl Fn(&Redriven) + Send + Sync + 'static) -> Self {
        self.audit = Some(Box::new(audit));
        self
    }

    /// Makes one pass over the dead-letter queue.
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    ///
    /// # Cancel safety
    ///
    /// As [`run_until`](Self::run_until).
    pub async fn run(self) -> Result<RedriveReport> {
        self.run_until(std::future::pending()).await
    }

    /// Makes one pass over the dead-letter queue, and stops early when `signal` resolves.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) when no target is given, or a target is the
    /// dead-letter queue itself, as far as the [URLs](towpath_core::QueueConfig::is_same_queue) of
    /// both tell. What receiving reports, when it fails again and again. Failed
    /// sends are in the report.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, messages that were sent may not be acked yet: they are in both
    /// queues, with one idempotency key. All others are released.
    pub async fn run_until(self, signal: impl Future<Output = ()>) -> Result<RedriveReport> {
        self.check()?;
        let mut pass = Pass::new(&self);
        tokio::pin!(signal);
        let end = loop {
            let report = &pass.report;
            let taken = report.redriven + report.unacked + report.unanswered;
            let left = usize::try_from(self.limit.saturating_sub(taken)).unwrap_or(usize::MAX);
            if left == 0 {
                break RedriveEnd::Limit;
            }
            if pass.in_hand() >= self.most_held {
                break RedriveEnd::Held;
            }
            let room = self.most_held - pass.in_hand();
            let batch = tokio::select! {
                biased;
                () = &mut signal => break RedriveEnd::Stopped,
                batch = pass.receive(self.batch.min(left).min(room)) => batch,
            };
            let batch = match batch {
                Ok(batch) if batch.is_empty() => break RedriveEnd::Empty,
                Ok(batch) => batch,
                Err(error) => {
                    pass.finish().await;
                    return Err(error);
                }
            };
            // Not raced against the signal: what is sent is acked.
            if let Err(error) = pass.step(batch).await {
                break RedriveEnd::TargetFailed(error);
            }
        };
        let mut report = pass.finish().await;
        report.end = end;
        tracing::info!(target: "towpath::redrive", from = self.from.queue(), %report, "redrive ended");
        Ok(report)
    }

    fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::new(ErrorKind::InvalidConfig, text));
        if self.to.is_none() && self.routes.is_empty() {
            return invalid(format!(
                "a redrive of {} needs a target; call `to` or `route`",
                self.from.queue()
            ));
        }
        if self.routes.contains_key(self.from.queue()) {
            return invalid(format!(
                "{} is the dead-letter queue itself; a route names the queue that a message failed in",
                self.from.queue()
            ));
        }
        let is_source = |target: &Producer| match (self.from.config(), target.config()) {
            (Some(from), Some(target)) => from.is_same_queue(target),
            _ => false,
        };
        if let Some(target) = self
            .to
            .iter()
            .chain(self.routes.values())
            .find(|to| is_source(to))
        {
            return invalid(format!(
                "the target {} is the dead-letter queue itself; what is sent there would be \
                 redriven again and again. Give the queue that the messages are for; two queues of \
                 one name are told apart by `region` and `endpoint` in both URLs",
                target.config().map(ToString::to_string).unwrap_or_default()
            ));
        }
        Ok(())
    }

    /// Where a message goes, with the name of that place.
    fn target(&self, record: &FailureRecord) -> Option<(&str, &Producer)> {
        match self.routes.get_key_value(&record.queue) {
            Some((origin, target)) => Some((origin, target)),
            None => self.to.as_ref().map(|target| ("override", target)),
        }
    }
}

impl fmt::Debug for Redrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redrive")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("routes", &self.routes)
            .field("filter", &self.filter)
            .field("limit", &self.limit)
            .field("dry_run", &self.is_dry)
            .finish_non_exhaustive()
    }
}
