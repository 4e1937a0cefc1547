//! Sending dead letters on: back to where they failed, or elsewhere.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};
use towpath_core::{
    Consumer, Delivery, Error, ErrorKind, FailureClass, FailureRecord, Message, Producer, Result,
};

use crate::{layers::Rate, receive::BACKOFF};

mod filter;
mod report;

pub use filter::RedriveFilter;
pub use report::{Fate, RedriveEnd, RedriveReport, Redriven};

/// After so many failed receives in a row a redrive gives up.
const FAILURES: u32 = 5;
/// The most messages in one step, unless the rate is lower.
const BATCH: usize = 100;

/// Sends the messages of a dead-letter queue on: to the queue that they failed in, or to another.
///
/// Each message is sent first and acked then, so a crash in between duplicates it and never loses
/// it. It keeps its body, its attributes, its
/// [idempotency key](Message::idempotency_key) and its failure record, in which `redrives` is one
/// more; its ordering key comes back from there.
///
/// Messages that the filter leaves out are held until the end and released then, so a pass sees
/// each message once. On a dead-letter queue with ordering, a message that is held back hides the
/// later ones of its key.
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
    /// dead-letter queue itself. What receiving reports, when it fails again and again. Failed
    /// sends are in the report.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, messages that were sent may not be acked yet: they are in both
    /// queues, with one idempotency key. All others are released.
    pub async fn run_until(self, signal: impl Future<Output = ()>) -> Result<RedriveReport> {
        self.check()?;
        let mut pass = Pass {
            redrive: &self,
            report: RedriveReport::new(self.is_dry),
            held: Vec::new(),
        };
        tokio::pin!(signal);
        let end = loop {
            let taken = pass.report.redriven.saturating_add(pass.report.unacked);
            let left = usize::try_from(self.limit.saturating_sub(taken)).unwrap_or(usize::MAX);
            if left == 0 {
                break RedriveEnd::Limit;
            }
            if pass.held.len() >= self.most_held {
                break RedriveEnd::Held;
            }
            let room = self.most_held - pass.held.len();
            let batch = tokio::select! {
                biased;
                () = &mut signal => break RedriveEnd::Stopped,
                batch = self.receive(self.batch.min(left).min(room)) => batch,
            };
            let batch = match batch {
                Ok(batch) if batch.is_empty() => break RedriveEnd::Empty,
                Ok(batch) => batch,
                Err(error) => {
                    pass.release().await;
                    return Err(error);
                }
            };
            // Not raced against the signal: what is sent is acked.
            if let Err(error) = pass.step(batch).await {
                break RedriveEnd::TargetFailed(error);
            }
        };
        pass.release().await;
        let mut report = pass.report;
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
        Ok(())
    }

    async fn receive(&self, most: usize) -> Result<Vec<Delivery>> {
        let mut failures = 0;
        loop {
            match self.from.receive_batch(most, self.quiet).await {
                Ok(batch) => return Ok(batch),
                Err(error) => {
                    failures += 1;
                    if failures >= FAILURES || !error.is_retryable() {
                        return Err(error);
                    }
                    tracing::warn!(from = self.from.queue(), %error, "receiving failed; it is tried again");
                    let pause = BACKOFF.delay(failures);
                    sleep(pause.max(error.retry_after().unwrap_or_default())).await;
                }
            }
        }
    }

    /// Where a message goes, with the name of that place.
    fn target(&self, record: &FailureRecord) -> Option<(&str, &Producer)> {
        match self.routes.get_key_value(&record.queue) {
            Some((origin, target)) => Some((origin, target)),
            None => self.to.as_ref().map(|target| ("override", target)),
        }
    }
}

/// One pass over the dead-letter queue.
struct Pass<'a> {
    redrive: &'a Redrive,
    report: RedriveReport,
    /// What stays, and is released at the end.
    held: Vec<Delivery>,
}

impl Pass<'_> {
    /// Redrives a batch. Fails when nothing of it could be sent.
    async fn step(&mut self, batch: Vec<Delivery>) -> Result<()> {
        let mut groups: BTreeMap<&str, (&Producer, Vec<Delivery>, Vec<Message>)> = BTreeMap::new();
        for delivery in batch {
            self.report.seen += 1;
            let record = record_of(&delivery, self.redrive.from.queue());
            if !self.redrive.filter.admits(delivery.envelope(), &record) {
                self.hold(delivery, &record, Fate::FilteredOut);
                continue;
            }
            let Some((name, target)) = self.redrive.target(&record) else {
                self.hold(delivery, &record, Fate::NoRoute);
                continue;
            };
            if self.redrive.is_dry {
                self.hold(delivery, &record, Fate::WouldRedrive);
                continue;
            }
            let message = copy_of(&delivery, &record, target);
            let group = groups
                .entry(name)
                .or_insert_with(|| (target, Vec::new(), Vec::new()));
            group.1.push(delivery);
            group.2.push(message);
        }
        let (mut sent, mut failed) = (0, None);
        for (name, (target, deliveries, messages)) in groups {
            self.pace(messages.len()).await;
            let results = target.send_batch(&messages).await;
            let mut done = Vec::with_capacity(deliveries.len());
            for (delivery, result) in deliveries.into_iter().zip(results) {
                match result {
                    Ok(_) => done.push(delivery),
                    Err(error) => {
                        let record = record_of(&delivery, self.redrive.from.queue());
                        tracing::error!(target: "towpath::redrive", key = %delivery.envelope().message.idempotency_key(), to = name, %error, "not sent; it stays in the dead-letter queue");
                        self.hold(delivery, &record, Fate::NotSent);
                        failed = Some(error);
                    }
                }
            }
            sent += done.len();
            self.ack(done, name).await;
        }
        match failed {
            Some(error) if sent == 0 => Err(error),
            _ => Ok(()),
        }
    }

    async fn pace(&self, messages: usize) {
        let Some(rate) = &self.redrive.rate else {
            return;
        };
        let mut start = Instant::now();
        for _ in 0..messages {
            // Waits for as long as it takes; the leases are kept.
            if let Ok(at) = rate.take(Duration::MAX) {
                start = at;
            }
        }
        sleep_until(start).await;
    }

    async fn ack(&mut self, deliveries: Vec<Delivery>, target: &str) {
        let from = self.redrive.from.queue();
        let audited: Vec<_> = deliveries
            .iter()
            .map(|delivery| {
                let record = record_of(delivery, from);
                Redriven::new(delivery.envelope(), &record, Some(target))
            })
            .collect();
        let results = self.redrive.from.ack_batch(deliveries).await;
        for (mut audited, result) in audited.into_iter().zip(results) {
            audited.fate = match result {
                Ok(_) => Fate::Redriven,
                Err(error) => {
                    tracing::error!(target: "towpath::redrive", key = %audited.idempotency_key, %error, "sent, and not removed from the dead-letter queue; it is in both");
                    Fate::Unacked
                }
            };
            metrics::counter!("towpath_redriven_total", "queue" => from.to_owned()).increment(1);
            self.audit(&audited);
        }
    }

    fn hold(&mut self, delivery: Delivery, record: &FailureRecord, fate: Fate) {
        let mut audited = Redriven::new(delivery.envelope(), record, None);
        audited.fate = fate;
        self.audit(&audited);
        self.held.push(delivery);
    }

    fn audit(&mut self, audited: &Redriven) {
        self.report.count(audited.fate);
        match audited.fate {
            Fate::FilteredOut => {
                tracing::debug!(target: "towpath::redrive", %audited, "left out");
            }
            _ => tracing::info!(target: "towpath::redrive", %audited, "dead letter"),
        }
        if let Some(audit) = &self.redrive.audit {
            audit(audited);
        }
    }

    /// Gives back what stays. When this fails it comes back by the end of its lease.
    async fn release(&mut self) {
        let held = std::mem::take(&mut self.held).into_iter();
        for result in join_all(held.map(|delivery| delivery.release(Duration::ZERO))).await {
            if let Err(error) = result {
                tracing::warn!(target: "towpath::redrive", %error, "a message that stays was not released; it comes back when its lease runs out");
            }
        }
    }
}

/// The failure record of a dead letter. A broker that moved the message by itself left none.
fn record_of(delivery: &Delivery, queue: &str) -> FailureRecord {
    let message = &delivery.envelope().message;
    message.failure().cloned().unwrap_or_else(|| {
        let class = FailureClass::Other("unknown".to_owned());
        FailureRecord::new(class, "moved by the queue, without a record", queue)
    })
}

fn copy_of(delivery: &Delivery, record: &FailureRecord, target: &Producer) -> Message {
    let message = &delivery.envelope().message;
    let accepts = target.capabilities();
    let mut record = record.clone();
    record.redrives = record.redrives.saturating_add(1);
    let mut copy = Message::new(message.body().clone())
        .with_idempotency_key(message.idempotency_key())
        .with_attributes(message.attributes().clone());
    let ordering_key = message.ordering_key().or(record.ordering_key.as_deref());
    if accepts.ordering
        && let Some(key) = ordering_key
    {
        copy = copy.with_ordering_key(key);
    }
    if accepts.dedup_window.is_some() {
        // Another one for each redrive, or the queue would take it for the first delivery.
        let id = format!("{}-redrive-{}", message.idempotency_key(), record.redrives);
        copy = copy.with_dedup_id(id);
    }
    copy.with_failure(Some(record))
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
