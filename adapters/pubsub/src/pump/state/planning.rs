//! What is to be done next: which streams to open and close, what to give back, whom to ask.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use towpath_core::{Error, Result};

use super::{BUFFER_LINGER, Handle, Phase, Renewal, STREAM_LINGER, State, Timer};

/// How long callers are kept waiting before more messages are allowed to come.
const STARVED: Duration = Duration::from_millis(20);
/// How often the service is asked again while it does not answer.
const RECOVERY: Duration = Duration::from_secs(2);
/// After how long a silence connections are made anew: one that is half dead is silent, too.
const RENEWAL: Duration = Duration::from_secs(300);
/// What counts as never.
const FAR: Duration = Duration::from_secs(3_600);

/// What is to be done now.
pub(in crate::pump) struct Plan<H> {
    /// Messages to give back.
    pub(in crate::pump) release: Vec<H>,
    /// Copies to be replaced by the next ones.
    pub(in crate::pump) renew_copies: Vec<Renewal>,
    /// A stream to open, for so many messages.
    pub(in crate::pump) open: Option<usize>,
    /// Streams to close.
    pub(in crate::pump) close: Vec<CancellationToken>,
    /// Whether new streams need a new connection.
    pub(in crate::pump) renew: bool,
    /// Whether the service is to be asked if all is well.
    pub(in crate::pump) probe: bool,
    /// Whether callers have something to look at.
    pub(in crate::pump) wake_callers: bool,
    /// When to plan again.
    pub(in crate::pump) next: Instant,
}

impl<H: Handle> State<H> {
    /// What is to be done now, and when to ask again.
    pub(in crate::pump) fn plan(&mut self, now: Instant) -> Plan<H> {
        let mut plan = Plan {
            release: Vec::new(),
            renew_copies: Vec::new(),
            open: None,
            close: Vec::new(),
            renew: false,
            probe: false,
            wake_callers: false,
            next: now + FAR,
        };
        if self.is_closed {
            return plan;
        }
        self.fire(now, &mut plan);
        self.sweep(now, &mut plan);
        let since_ask = self.last_ask.map(|ask| now.saturating_duration_since(ask));
        if self.is_asked(now) {
            if self.waiting == 0 {
                plan.next = plan.next.min(now + STREAM_LINGER);
            }
            self.watch(now, &mut plan);
            self.adjust(now, &mut plan);
        } else {
            self.starved_since = None;
            // First, because nothing is given back while a stream is open that it could come by.
            self.drop_unwanted(since_ask, now, &mut plan);
            let settled = self.last_settled.map(|at| at + STREAM_LINGER);
            match settled {
                // Callers that settle often ask for more right after.
                Some(until) if until > now && plan.release.is_empty() => {
                    plan.next = plan.next.min(until);
                }
                // What is on its way when a stream is closed stays away for a lease. Where all that
                // may be here is here, nothing is, and the stream costs nothing.
                _ if self.streams.is_occupied() && plan.release.is_empty() => {}
                _ => plan.close = self.streams.close(),
            }
        }
        plan.wake_callers = self.waiting > 0 && (!self.ready.is_empty() || self.error.is_some());
        plan.next = plan.next.max(now + Duration::from_millis(1));
        self.planned = plan.next;
        plan
    }

    /// Whether callers wait for messages, or did just now.
    pub(super) fn is_asked(&self, now: Instant) -> bool {
        self.waiting > 0
            || self
                .last_ask
                .is_some_and(|ask| now.saturating_duration_since(ask) < STREAM_LINGER)
    }

    /// Timers that are due.
    fn fire(&mut self, now: Instant, plan: &mut Plan<H>) {
        while let Some(first) = self.timers.first_entry() {
            let at = first.key().0;
            if at > now {
                plan.next = plan.next.min(at);
                return;
            }
            match first.remove() {
                Timer::Held(number) => plan.release.extend(self.failed(number, now)),
                Timer::Early(number) => self.wake_early(number, now, plan),
                Timer::Key(key) => {
                    let next = self.order.due(&key, now);
                    self.turn(&key, next);
                }
            }
        }
    }

    /// Gives back what was held for too long.
    fn sweep(&mut self, now: Instant, plan: &mut Plan<H>) {
        if self.entries.is_empty() {
            return;
        }
        if now >= self.next_sweep {
            let longest = self.receiving.max_lease;
            let period = (longest / 20).clamp(Duration::from_millis(50), Duration::from_secs(5));
            self.next_sweep = now + period;
            let over: Vec<u64> = self
                .entries
                .iter()
                .filter(|(_, entry)| match entry.phase {
                    Phase::Delivered(until) => now >= until,
                    Phase::Ready | Phase::Waiting => now >= entry.came + longest,
                    Phase::Held | Phase::Early(_) | Phase::Confirming(_) => false,
                })
                .map(|(number, _)| *number)
                .collect();
            for number in over {
                plan.release.extend(self.expire(number, now));
            }
        }
        plan.next = plan.next.min(self.next_sweep);
    }

    fn expire(&mut self, number: u64, now: Instant) -> Vec<H> {
        let Some(entry) = self.entries.get(&number) else {
            return Vec::new();
        };
        match (&entry.phase, entry.key.clone()) {
            (Phase::Waiting, Some(key)) => {
                let mut release = Vec::new();
                for number in self.order.forget_from(&key, number) {
                    release.extend(self.remove(number, now).into_iter().flat_map(|e| e.handles));
                }
                release
            }
            _ => self.failed(number, now),
        }
    }

    /// Gives back what nobody asks for.
    fn drop_unwanted(&mut self, since_ask: Option<Duration>, now: Instant, plan: &mut Plan<H>) {
        if self.ready.is_empty() {
            return;
        }
        let since_ask = since_ask.unwrap_or(BUFFER_LINGER);
        if since_ask < BUFFER_LINGER {
            plan.next = plan.next.min(now + (BUFFER_LINGER - since_ask));
            return;
        }
        for number in std::mem::take(&mut self.ready) {
            let Some(entry) = self.remove(number, now) else {
                continue;
            };
            plan.release.extend(entry.handles);
            // Others of a key may go with it: no other consumer has one of them before this one.
            let behind = entry.key.map(|key| self.order.forget(&key));
            for number in behind.into_iter().flatten() {
                plan.release
                    .extend(self.remove(number, now).into_iter().flat_map(|e| e.handles));
            }
        }
    }

    /// Asks the service after a silence, and makes connections anew after a long one.
    fn watch(&mut self, now: Instant, plan: &mut Plan<H>) {
        let renewal = self.last_arrival + RENEWAL;
        if now >= renewal && !self.is_failing {
            self.last_arrival = now;
            plan.renew = true;
            plan.close = self.streams.close();
        }
        if self.is_probing {
            return;
        }
        let since = self
            .last_probe
            .map_or(self.last_sign, |at| at.max(self.last_sign));
        let interval = if self.is_failing {
            RECOVERY.min(self.receiving.health_interval)
        } else {
            self.receiving.health_interval
        };
        if now >= since + interval {
            plan.probe = true;
            self.is_probing = true;
        } else {
            plan.next = plan.next.min(since + interval);
        }
    }

    /// The service answered, or did not.
    pub(in crate::pump) fn probed(
        &mut self,
        result: Result<()>,
        now: Instant,
    ) -> Vec<CancellationToken> {
        self.is_probing = false;
        self.last_probe = Some(now);
        match result {
            Ok(()) => {
                self.last_sign = now;
                self.error = None;
                // The client library may wait for a minute before it tries to connect again.
                let was_failing = std::mem::replace(&mut self.is_failing, false);
                if was_failing {
                    self.streams.close()
                } else {
                    Vec::new()
                }
            }
            Err(error) => {
                self.is_failing = true;
                self.error = Some(error);
                Vec::new()
            }
        }
    }

    /// A stream ended in an error that the client library does not get over.
    pub(in crate::pump) fn stream_failed(&mut self, error: Error) {
        self.error = Some(error);
    }

    /// Opens streams as callers want messages.
    fn adjust(&mut self, now: Instant, plan: &mut Plan<H>) {
        if !self.ready.is_empty() {
            self.starved_since = None;
            return;
        }
        let want = self.waiting.max(self.asked).max(1);
        let most = self.receiving.max_outstanding;
        if self.streams.is_empty() {
            plan.open = Some(want.min(most));
            return;
        }
        if self.waiting == 0 || !self.streams.is_saturated(now) {
            self.starved_since = None;
            return;
        }
        // What waits for its delay takes a place at the service, too.
        let open = self.streams.limit().saturating_sub(self.held);
        if open >= most || self.streams.are_most() {
            return;
        }
        let since = *self.starved_since.get_or_insert(now);
        if !self.streams.is_occupied() && now < since + STARVED {
            plan.next = plan.next.min(since + STARVED);
            return;
        }
        self.starved_since = None;
        // Twice as many each time. What is held makes small steps, which would be many streams.
        let mut room = most - open;
        if self.held > 0 {
            let all = most + self.receiving.max_held.max(self.held) - self.streams.limit();
            room = room.max(most / 8).min(all).max(1);
        }
        let mut step = open.max(want);
        if self.streams.are_many() {
            // Each of them is full of what is held; the last ones must not be, too.
            step = step.max(self.held);
        }
        plan.open = Some(step.min(room));
    }
}
