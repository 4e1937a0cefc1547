//! What settles one message that was handed out.

use std::{
    fmt,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::{sync::watch, time::Instant};
use towpath_core::{Error, ErrorKind, Result, driver::Receipt};

use super::{
    Shared,
    copies::{self, Copier, Replacement},
    end, give_back,
    state::{Ack, Outcome, Replace, State, Unheld},
};
use crate::error::{self, Operation};

/// The right to settle a message, once. Dropping it unsettled gives the message back.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    entry: u64,
    /// Whether dropping it has nothing left to do.
    is_acked: AtomicBool,
}

impl Ticket {
    pub(super) fn new(shared: Arc<Shared>, entry: u64) -> Self {
        Self {
            shared,
            entry,
            is_acked: AtomicBool::new(false),
        }
    }

    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// Gives the message back, after `delay`. Returns where the outcome will be, where that takes a
    /// request; `receipt` is this one.
    pub(super) fn nack(&self, delay: Duration, receipt: &Receipt) -> Result<Option<Outcome>> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        if state.is_closed() {
            return Err(Operation::Nack.closed());
        }
        if delay.is_zero() {
            let streams = state.close_unasked(now);
            let handlers = state.nack(self.entry, now);
            let is_late = state.is_late();
            drop(state);
            end(streams);
            give_back(handlers.ok_or_else(|| Operation::Nack.lease_lost())?);
            self.shared.settled(is_late);
            return Ok(None);
        }
        if delay > self.shared.receiving.nack_delay {
            return match &self.shared.copier {
                Some(copier) if delay <= copier.longest() => self
                    .replace(state, copier, delay, receipt.clone())
                    .map(Some),
                copier => Err(self.too_long(copier.as_deref())),
            };
        }
        let held = state.hold(self.entry, now + delay);
        drop(state);
        match held {
            Ok(()) => {
                self.shared.work.notify_one();
                Ok(None)
            }
            Err(unheld) => Err(self.unheld(&unheld, now)),
        }
    }

    /// Replaces the message by a copy that waits for `delay`.
    fn replace(
        &self,
        mut state: MutexGuard<'_, State<Handler>>,
        copier: &Arc<Copier>,
        delay: Duration,
        receipt: Receipt,
    ) -> Result<Outcome> {
        let now = Instant::now();
        let due = SystemTime::now() + delay;
        let (report, outcome) = watch::channel(None);
        let (original, until) = match state.replace(self.entry, outcome.clone(), now) {
            Replace::Now(original, until) => (original, until),
            Replace::Pending(outcome) => return Ok(outcome),
            Replace::Not(unheld) => return Err(self.unheld(&unheld, now)),
        };
        drop(state);
        let replacement = Replacement {
            entry: self.entry,
            original,
            due,
            until,
            report,
        };
        // A task of its own: a caller that goes away does not stop it.
        let task = copies::replace(self.shared.clone(), copier.clone(), replacement, receipt);
        self.shared.confirmations.spawn(task);
        Ok(outcome)
    }

    fn too_long(&self, copier: Option<&Copier>) -> Error {
        let held = humantime::format_duration(self.shared.receiving.nack_delay);
        let why = match copier {
            Some(copier) => format!(
                "a nack can be delayed by at most {}, for which the subscription keeps messages",
                humantime::format_duration(copier.longest())
            ),
            None => format!(
                "a message can be held for {held} at most before it is given back, and this \
                 subscription has no longer delays, because it is ordered, or not the only one of \
                 its topic, or because the topic may not be looked at or published to; raise \
                 nack_delay, or see the README about long delays"
            ),
        };
        Operation::Nack.error(ErrorKind::Unsupported, why)
    }

    fn unheld(&self, why: &Unheld, now: Instant) -> Error {
        match why {
            Unheld::Lost => Operation::Nack.lease_lost(),
            Unheld::Full(free) => Operation::Nack
                .error(
                    ErrorKind::Throttled,
                    format!(
                        "as many messages wait here for their time as may (max_held is {}, \
                         max_outstanding_bytes {}); raise them, or slow down",
                        self.shared.receiving.max_held, self.shared.receiving.max_outstanding_bytes,
                    ),
                )
                .with_retry_after(free.saturating_duration_since(now)),
        }
    }
}

/// Sends acks, all at once. Returns for each where its outcome will be, where the service tells.
pub(super) fn ack<'a>(
    shared: &Arc<Shared>,
    tickets: impl Iterator<Item = Result<&'a Ticket>>,
) -> Vec<Result<Option<Outcome>>> {
    let mut submitted = Vec::new();
    let mut confirmations = Vec::new();
    let now = Instant::now();
    let mut state = shared.lock();
    let outcomes = tickets
        .map(|ticket| {
            let ticket = ticket?;
            if state.is_closed() {
                return Err(Operation::Ack.closed());
            }
            match state.ack(ticket.entry, now) {
                Ack::Lost => Err(Operation::Ack.lease_lost()),
                Ack::Pending(outcome) => Ok(Some(outcome)),
                Ack::Submit(handlers) => {
                    ticket.is_acked.store(true, Ordering::Relaxed);
                    submitted.extend(handlers);
                    Ok(None)
                }
                Ack::Confirm(handlers) => {
                    let (report, outcome) = watch::channel(None);
                    state.confirming(ticket.entry, outcome.clone());
                    confirmations.push(confirm(shared.clone(), ticket.entry, handlers, report));
                    Ok(Some(outcome))
                }
            }
        })
        .collect();
    let is_late = state.is_late();
    drop(state);
    if !submitted.is_empty() {
        for handler in submitted {
            handler.ack();
        }
        shared.settled(is_late);
    }
    for confirmation in confirmations {
        // A task of its own: a caller that goes away does not lose the outcome.
        shared.confirmations.spawn(confirmation);
    }
    outcomes
}

/// Acks, and waits until the service has confirmed that, where it does.
pub(super) async fn confirm(
    shared: Arc<Shared>,
    entry: u64,
    mut handlers: Vec<Handler>,
    report: watch::Sender<Option<Result<()>>>,
) {
    let newest = handlers.pop();
    // The service has given these up when it sent the message again.
    for handler in handlers {
        handler.ack();
    }
    let result = match newest {
        Some(Handler::ExactlyOnce(handler)) => handler
            .confirmed_ack()
            .await
            .map_err(|error| error::of_ack(&shared.subscription, error)),
        Some(other) => {
            other.ack();
            Ok(())
        }
        None => Err(Operation::Ack.lease_lost()),
    };
    let now = Instant::now();
    let again = if result.is_ok() {
        let again = shared.lock().done(entry, now);
        for handler in again {
            handler.ack();
        }
        Vec::new()
    } else {
        shared.lock().failed(entry, now)
    };
    give_back(again);
    // Nobody may be waiting for it any more.
    let _ = report.send(Some(result));
    shared.settled(true);
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if *self.is_acked.get_mut() {
            return;
        }
        let now = Instant::now();
        let (handlers, streams, is_late) = {
            let mut state = self.shared.lock();
            let handlers = state.nack(self.entry, now);
            let streams = if handlers.is_some() {
                state.close_unasked(now)
            } else {
                Vec::new()
            };
            (handlers, streams, state.is_late())
        };
        if let Some(handlers) = handlers {
            end(streams);
            give_back(handlers);
            self.shared.settled(is_late);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.entry).finish()
    }
}
