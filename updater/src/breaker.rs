//! Stops calling what fails, and finds out when it is well again.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

pub use config::BreakerConfig;
use config::LONGEST;

mod config;

/// What a [`Breaker`] does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// All calls pass.
    Closed,
    /// No call passes until the cool-down is over.
    Open,
    /// The cool-down is over: one call passes, and decides.
    HalfOpen,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// A circuit breaker. Cloning is cheap; clones share everything.
///
/// It opens when calls fail as its [`BreakerConfig`] says, stays open for the cool-down, and then
/// lets one call through: when that succeeds it closes, when it fails the cool-down begins again,
/// twice as long.
///
/// Whoever feeds calls to it should stop while it is open: wait for [`opened`](Self::opened), stop,
/// wait for [`closed`](Self::closed), go on. `closed` also resolves after a cool-down when nobody
/// waits to be let through, since somebody has to be the one that decides.
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    config: BreakerConfig,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

struct Inner {
    phase: Phase,
    /// Grows when it opens, fails again or closes, so that calls of an earlier time do not count.
    generation: u64,
    consecutive: u32,
    /// Whether the last calls failed.
    window: VecDeque<bool>,
    next_cool_down: Duration,
    /// The tickets of those who wait in `enter`; the lowest is let through first.
    waiting: BTreeSet<u64>,
    next_ticket: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Instant, is_trying: bool },
}

/// Whether to go on.
enum Wait {
    No,
    Until(Instant),
    Change,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(config: BreakerConfig) -> Self {
        let inner = Inner {
            phase: Phase::Closed,
            generation: 0,
            consecutive: 0,
            window: VecDeque::new(),
            next_cool_down: config.cool_down,
            waiting: BTreeSet::new(),
            next_ticket: 0,
        };
        Self(Arc::new(Shared {
            config,
            inner: Mutex::new(inner),
            changed: watch::Sender::new(()),
        }))
    }

    /// What it does with calls now.
    pub fn state(&self) -> BreakerState {
        match self.lock().phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { until, .. } if Instant::now() < until => BreakerState::Open,
            Phase::Open { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether calls should stop coming; see [`opened`](Self::opened).
    pub fn is_open(&self) -> bool {
        !matches!(self.lock().feed(Instant::now()), Wait::No)
    }

    /// How long it stays open; zero when it is not.
    pub fn cool_down_left(&self) -> Duration {
        match self.lock().phase {
            Phase::Closed => Duration::ZERO,
            Phase::Open { until, .. } => until.saturating_duration_since(Instant::now()),
        }
    }

    /// Resolves when calls should stop coming; at once, when that is so now.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only watches.
    pub async fn opened(&self) {
        self.wait(|inner, now| match inner.feed(now) {
            Wait::No => Wait::Change,
            _ => Wait::No,
        })
        .await;
    }

    /// Resolves when calls should come again; at once, when that is so now.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only watches.
    pub async fn closed(&self) {
        self.wait(Inner::feed).await;
    }

    /// Asks to make a call. `None`: not now.
    pub fn try_enter(&self) -> Option<Pass> {
        let mut inner = self.lock();
        let is_try = match &mut inner.phase {
            Phase::Closed => false,
            Phase::Open { until, is_trying } => {
                if *is_trying || Instant::now() < *until {
                    return None;
                }
                *is_trying = true;
                true
            }
        };
        let generation = inner.generation;
        drop(inner);
        if is_try {
            self.tell();
        }
        Some(Pass {
            breaker: self.clone(),
            generation,
            is_try,
            is_over: false,
        })
    }

    /// Waits until a call may be made. After a cool-down, whoever waits longest is let through.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a pass is handed out only when the future is ready.
    pub async fn enter(&self) -> Pass {
        if matches!(self.lock().phase, Phase::Closed)
            && let Some(pass) = self.try_enter()
        {
            return pass;
        }
        let waiting = Waiting::new(self);
        loop {
            self.wait(|inner, now| match inner.phase {
                Phase::Closed => Wait::No,
                Phase::Open {
                    is_trying: true, ..
                } => Wait::Change,
                Phase::Open { until, .. } if now < until => Wait::Until(until),
                Phase::Open { .. } if inner.waiting.first() == Some(&waiting.ticket) => Wait::No,
                Phase::Open { .. } => Wait::Change,
            })
            .await;
            if let Some(pass) = self.try_enter() {
                return pass;
            }
        }
    }

    async fn wait(&self, decide: impl Fn(&Inner, Instant) -> Wait) {
        let mut changed = self.0.changed.subscribe();
        loop {
            let wait = decide(&self.lock(), Instant::now());
            // The sender lives as long as `self`, so `changed` cannot fail.
            match wait {
                Wait::No => return,
                Wait::Change => drop(changed.changed().await),
                // Both branches are cancel safe: a watch and a timer.
                Wait::Until(until) => tokio::select! {
                    _ = changed.changed() => {}
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
    }

    /// How many wait in [`enter`](Self::enter).
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.0.changed.send_replace(());
    }

    fn finish(&self, pass: &Pass, verdict: Verdict) {
        let mut inner = self.lock();
        if pass.generation != inner.generation {
            return;
        }
        inner.record(verdict, pass.is_try, &self.0.config, Instant::now());
        drop(inner);
        self.tell();
    }
}

impl Inner {
    /// Whether calls should come, for those who have calls that are not waiting here yet.
    fn feed(&self, now: Instant) -> Wait {
        match self.phase {
            Phase::Closed => Wait::No,
            Phase::Open { until, .. } if now < until => Wait::Until(until),
            Phase::Open { is_trying, .. } if is_trying || !self.waiting.is_empty() => Wait::Change,
            Phase::Open { .. } => Wait::No,
        }
    }

    fn record(&mut self, verdict: Verdict, is_try: bool, config: &BreakerConfig, now: Instant) {
        match verdict {
            Verdict::None => {
                if let Phase::Open { is_trying, .. } = &mut self.phase
                    && is_try
                {
                    *is_trying = false;
                }
            }
            Verdict::Success if is_try => {
                self.generation += 1;
                self.phase = Phase::Closed;
                self.consecutive = 0;
                self.window.clear();
                self.next_cool_down = config.cool_down;
            }
            Verdict::Success => {
                self.consecutive = 0;
                self.note(false, config);
            }
            Verdict::Failure { until } => {
                self.consecutive = self.consecutive.saturating_add(1);
                self.note(true, config);
                if is_try || until.is_some() || self.is_too_much(config) {
                    self.open(until, config, now);
                }
            }
        }
    }

    fn note(&mut self, failed: bool, config: &BreakerConfig) {
        if config.failure_ratio.is_some() {
            if self.window.len() >= config.window {
                self.window.pop_front();
            }
            self.window.push_back(failed);
        }
    }

    fn is_too_much(&self, config: &BreakerConfig) -> bool {
        if self.consecutive >= config.consecutive_failures {
            return true;
        }
        let failed = self.window.iter().filter(|failed| **failed).count();
        config.failure_ratio.is_some_and(|ratio| {
            self.window.len() >= config.window && failed as f64 >= ratio * self.window.len() as f64
        })
    }

    fn open(&mut self, least: Option<Duration>, config: &BreakerConfig, now: Instant) {
        let cool_down = self.next_cool_down.max(least.unwrap_or_default());
        let cool_down = cool_down.min(LONGEST);
        self.next_cool_down = self
            .next_cool_down
            .saturating_mul(2)
            .min(config.max_cool_down);
        self.generation += 1;
        self.consecutive = 0;
        self.window.clear();
        self.phase = Phase::Open {
            until: now + cool_down,
            is_trying: false,
        };
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("state", &self.state())
            .field("cool_down_left", &self.cool_down_left())
            .finish()
    }
}

enum Verdict {
    /// The call did not happen, or says nothing.
    None,
    Success,
    Failure {
        until: Option<Duration>,
    },
}

/// The permission to make one call. Say how it went; dropping it says nothing.
#[derive(Debug)]
#[must_use = "say how the call went"]
pub struct Pass {
    breaker: Breaker,
    generation: u64,
    is_try: bool,
    is_over: bool,
}

impl Pass {
    /// Whether this is the call that decides after a cool-down.
    pub fn is_try(&self) -> bool {
        self.is_try
    }

    /// Whether the breaker neither opened nor closed since the pass was handed out.
    pub fn is_current(&self) -> bool {
        self.generation == self.breaker.lock().generation
    }

    /// The call succeeded.
    pub fn success(mut self) {
        self.end(Verdict::Success);
    }

    /// The call failed.
    pub fn failure(mut self) {
        self.end(Verdict::Failure { until: None });
    }

    /// The call failed, and the other side asks to be left alone for `time`, of which at most 24 h
    /// count: opens at once.
    pub fn failure_for(mut self, time: Duration) {
        self.end(Verdict::Failure { until: Some(time) });
    }

    fn end(&mut self, verdict: Verdict) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.breaker.finish(self, verdict);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.end(Verdict::None);
    }
}

/// Counts as waiting for as long as it lives.
struct Waiting<'a> {
    breaker: &'a Breaker,
    ticket: u64,
}

impl<'a> Waiting<'a> {
    fn new(breaker: &'a Breaker) -> Self {
        let mut inner = breaker.lock();
        let ticket = inner.next_ticket;
        inner.next_ticket += 1;
        inner.waiting.insert(ticket);
        drop(inner);
        breaker.tell();
        Self { breaker, ticket }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.breaker.lock().waiting.remove(&self.ticket);
        self.breaker.tell();
    }
}

#[cfg(test)]
mod tests;
