//! Whether a worker makes progress.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use crate::Gate;

/// Receiving is stalled when no receive call was answered for so long, an empty answer included.
const STALLED: Duration = Duration::from_secs(120);
/// After so many failed receives in a row a worker is not ready.
const FAILURES: u32 = 3;
/// No time.
const NEVER: u64 = u64::MAX;

/// Says whether a worker makes progress. Cloning is cheap; made by
/// [`Worker::health`](crate::Worker::health), and right for as long as the process lives.
///
/// Health goes by progress, not by sockets: when the last receive was answered, and when the last
/// message was settled.
#[derive(Clone, Debug)]
pub struct Health(Arc<Progress>);

#[derive(Debug)]
pub(crate) struct Progress {
    queue: Arc<str>,
    gate: Gate,
    epoch: Instant,
    /// How long a message can be in hand before that means that nothing moves.
    longest_attempt: Duration,
    phase: AtomicU32,
    receiving_since: AtomicU64,
    received: AtomicU64,
    settled: AtomicU64,
    /// When there was something in hand again.
    busy_since: AtomicU64,
    failures: AtomicU32,
    in_hand: AtomicU64,
}

/// The phases of a worker.
pub(crate) mod phase {
    pub(crate) const NEW: u32 = 0;
    pub(crate) const RUNNING: u32 = 1;
    pub(crate) const DRAINING: u32 = 2;
    pub(crate) const ENDED: u32 = 3;
}

/// The answer to a health check, for a JSON body.
///
/// ```json
/// {"ok":false,"queue":"orders","reasons":["paused: the circuit breaker crm is open"],
///  "in_hand":0,"last_receive_s":3.2,"last_settle_s":3.1}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// Whether all is well.
    pub ok: bool,
    /// The queue.
    pub queue: String,
    /// Why not; empty when all is well.
    pub reasons: Vec<String>,
    /// Messages in hand.
    pub in_hand: u64,
    /// Seconds since a receive call was answered; an empty answer counts.
    pub last_receive_s: Option<f64>,
    /// Seconds since a message was settled.
    pub last_settle_s: Option<f64>,
}

impl Health {
    pub(crate) fn new(queue: Arc<str>, gate: Gate, longest_attempt: Duration) -> Self {
        Self(Arc::new(Progress {
            queue,
            gate,
            epoch: Instant::now(),
            longest_attempt,
            phase: AtomicU32::new(phase::NEW),
            receiving_since: AtomicU64::new(NEVER),
            received: AtomicU64::new(NEVER),
            settled: AtomicU64::new(NEVER),
            busy_since: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            in_hand: AtomicU64::new(0),
        }))
    }

    /// Whether the worker moves. When it does not, restarting the process is the answer.
    ///
    /// Not alive is: no receive call answered for 2 min although the worker waits for one, or
    /// messages in hand and none settled for longer than an attempt may take.
    pub fn liveness(&self) -> HealthReport {
        let progress = &*self.0;
        let mut reasons = Vec::new();
        let now = progress.now();
        let since = progress.receiving_since.load(Ordering::Acquire);
        if since != NEVER && elapsed(since, now) > STALLED {
            reasons.push(format!(
                "no receive call was answered for {}",
                seconds(elapsed(since, now))
            ));
        }
        if progress.in_hand.load(Ordering::Acquire) > 0 {
            let busy_since = progress.busy_since.load(Ordering::Acquire);
            let last = match progress.settled.load(Ordering::Acquire) {
                NEVER => busy_since,
                settled => settled.max(busy_since),
            };
            let waited = elapsed(last, now);
            if waited > progress.longest_attempt {
                reasons.push(format!(
                    "messages are in hand, and none was settled for {}",
                    seconds(waited)
                ));
            }
        }
        progress.report(reasons)
    }

    /// Whether the worker takes messages now: it runs, is not paused, and the queue answers.
    pub fn readiness(&self) -> HealthReport {
        let progress = &*self.0;
        let mut reasons = Vec::new();
        match progress.phase.load(Ordering::Acquire) {
            phase::NEW => reasons.push("not started".to_owned()),
            phase::DRAINING => reasons.push("stopping".to_owned()),
            phase::ENDED => reasons.push("ended".to_owned()),
            _ => {}
        }
        let pauses = progress.gate.reasons();
        reasons.extend(pauses.into_iter().map(|reason| match reason.as_str() {
            "paused" => reason,
            _ => format!("paused: {reason}"),
        }));
        let failures = progress.failures.load(Ordering::Acquire);
        if failures >= FAILURES {
            reasons.push(format!("the last {failures} receive calls failed"));
        }
        progress.report(reasons)
    }

    pub(crate) fn enter(&self, phase: u32) {
        self.0.phase.store(phase, Ordering::Release);
    }

    /// A receive call is under way until the returned guard is dropped.
    pub(crate) fn receiving(&self) -> Receiving<'_> {
        let begun = self.0.now();
        self.0.receiving_since.store(begun, Ordering::Release);
        Receiving(&self.0)
    }

    /// A receive call was answered with so many messages.
    pub(crate) fn received(&self, messages: u64) {
        let now = self.0.now();
        self.0.received.store(now, Ordering::Release);
        self.0.failures.store(0, Ordering::Release);
        if messages > 0 && self.0.in_hand.fetch_add(messages, Ordering::AcqRel) == 0 {
            self.0.busy_since.store(now, Ordering::Release);
        }
    }

    pub(crate) fn failed(&self, failures: u32) {
        self.0.failures.store(failures, Ordering::Release);
    }

    /// A message was settled, one way or the other.
    pub(crate) fn settled(&self) {
        self.0.settled.store(self.0.now(), Ordering::Release);
    }

    /// A message is not in hand any more.
    pub(crate) fn let_go(&self) {
        self.0.in_hand.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A receive call under way. Without one, none is missing: there are no permits, or it is paused.
pub(crate) struct Receiving<'a>(&'a Progress);

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.receiving_since.store(NEVER, Ordering::Release);
    }
}

impl Progress {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(NEVER - 1)
    }

    fn report(&self, reasons: Vec<String>) -> HealthReport {
        let now = self.now();
        let since = |at: &AtomicU64| match at.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(elapsed(at, now).as_secs_f64()),
        };
        HealthReport {
            ok: reasons.is_empty(),
            queue: self.queue.to_string(),
            reasons,
            in_hand: self.in_hand.load(Ordering::Acquire),
            last_receive_s: since(&self.received),
            last_settle_s: since(&self.settled),
        }
    }
}

fn elapsed(since: u64, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(since))
}

fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
