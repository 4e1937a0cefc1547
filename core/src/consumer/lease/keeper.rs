//! The task that extends the leases of a consumer, and tells of those that are lost.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::Semaphore,
    time::{sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Entry, Group, Registry, extend_at, nanos, phase};
use crate::{
    Error, ErrorKind, Lease, Result,
    driver::{self, Receipt},
};

/// How many extension requests of a consumer are under way at once.
const REQUESTS: usize = 16;

/// Extends leases at about half of their time, and tells of those that are lost. Ends when the
/// consumer and all its deliveries are gone.
pub(in crate::consumer) async fn keep(
    registry: Arc<Registry>,
    driver: Arc<dyn driver::Consumer>,
    stop: CancellationToken,
) {
    let lease = &driver.capabilities().lease;
    let half = nanos(lease.duration().unwrap_or(lease.max_total())) / 2;
    let slots = Semaphore::new(REQUESTS);
    // Side by side, so that one without an answer holds up no other lease.
    let mut extensions = FuturesUnordered::new();
    let mut is_idle = false;
    loop {
        // All that ended by now, so that the leases are looked through once for them.
        while let Some(Some(())) = extensions.next().now_or_never() {}
        let mut next = registry.next_due();
        if next.is_none() && !is_idle {
            // Leases to come need nothing for half their time. Staying until then saves them from
            // waking this task one after the other.
            next = Some(registry.stay(half));
            is_idle = true;
        }
        let sleeping = async {
            match next {
                Some(at) => sleep_until(registry.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        // All branches only wait; nothing is lost when one of them is dropped.
        tokio::select! {
            () = stop.cancelled() => return,
            () = registry.wake.notified() => {
                is_idle = false;
                continue;
            }
            Some(()) = extensions.next() => continue,
            () = sleeping => {}
        }
        let due = registry.due();
        if !due.is_empty() {
            extensions.extend(extend(&registry, &*driver, &slots, due));
        }
    }
}

impl Registry {
    fn live(&self) -> Vec<Arc<Group>> {
        self.groups()
            .iter()
            .filter_map(|(_, group)| group.upgrade())
            .collect()
    }

    /// When something is to be done next; `None` when there are no leases.
    fn next_due(&self) -> Option<u64> {
        // Set first: a group that comes during the scan then wakes the keeper again.
        self.next_wake.store(u64::MAX, Ordering::Release);
        let groups = self.live();
        let next = groups
            .iter()
            .flat_map(|group| {
                group
                    .entries
                    .iter()
                    .filter_map(|entry| group.next_due(entry))
            })
            .min();
        if let Some(next) = next {
            self.next_wake.store(next, Ordering::Release);
        }
        next
    }

    /// Notes that the keeper wakes after `half` by itself, and returns when.
    fn stay(&self, half: u64) -> u64 {
        let at = self.now().saturating_add(half);
        self.next_wake.store(at, Ordering::Release);
        at
    }

    /// Marks what ran out, and returns what is to be extended.
    fn due(&self) -> Vec<Due> {
        let now = self.now();
        let mut due = Vec::new();
        for group in self.live() {
            let mut is_changed = false;
            for (index, entry) in group.entries.iter().enumerate() {
                let phase = entry.phase();
                if phase != phase::HELD && phase != phase::ACKING {
                    continue;
                }
                if now >= entry.until.load(Ordering::Acquire) {
                    let is_held = |now| now == phase::HELD;
                    is_changed |= group.enter(index, phase::LOST, is_held);
                } else if now >= entry.extend_at.load(Ordering::Acquire) && now < group.last {
                    let marked = entry.state.compare_exchange(
                        phase,
                        phase | phase::EXTENDING,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                    if marked.is_ok() {
                        due.push(Due {
                            group: group.clone(),
                            index,
                        });
                    }
                }
            }
            if is_changed {
                tracing::warn!(
                    queue = group.shared.queue_name(),
                    "a lease ran out while its message was being handled"
                );
                group.changed.notify_waiters();
            }
        }
        due
    }
}

impl Group {
    fn next_due(&self, entry: &Entry) -> Option<u64> {
        let state = entry.state.load(Ordering::Acquire);
        let until = entry.until.load(Ordering::Acquire);
        let is_extending = state & phase::EXTENDING != 0;
        let extend_at = Some(entry.extend_at.load(Ordering::Acquire))
            .filter(|at| !is_extending && *at < self.last);
        match state & phase::MASK {
            phase::HELD => Some(extend_at.map_or(until, |at| at.min(until))),
            // Once it ran out nothing is to be done any more but to wait for the answer.
            phase::ACKING if self.shared.leases.now() < until => extend_at,
            _ => None,
        }
    }
}

/// A lease whose extension is under way. Dropping it ends the extension.
struct Due {
    group: Arc<Group>,
    index: usize,
}

impl Due {
    fn entry(&self) -> &Entry {
        &self.group.entries[self.index]
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        let entry = self.entry();
        let before = entry.state.fetch_and(!phase::EXTENDING, Ordering::AcqRel);
        // A nack waits for the end of the extension, and all want to hear of a lost lease. An
        // extended one is nobody's news, and a group may have hundreds of handlers waiting.
        if matches!(before & phase::MASK, phase::NACKING | phase::LOST) {
            self.group.changed.notify_waiters();
        }
    }
}

/// The calls that extend what is due.
fn extend<'a>(
    registry: &'a Registry,
    driver: &'a dyn driver::Consumer,
    slots: &'a Semaphore,
    mut due: Vec<Due>,
) -> Vec<impl Future<Output = ()> + 'a> {
    let capabilities = driver.capabilities();
    let mut calls = Vec::new();
    let Lease::Extended {
        duration, range, ..
    } = &capabilities.lease
    else {
        return calls;
    };
    let now = registry.now();
    while !due.is_empty() {
        let rest = due.split_off(due.len().min(capabilities.limits.settle_batch.max(1)));
        let batch = std::mem::replace(&mut due, rest);
        let left = batch
            .iter()
            .map(|due| due.group.last.saturating_sub(now))
            .min()
            .unwrap_or(0);
        let lease = Duration::from_nanos(left)
            .min(*duration)
            .max(*range.start());
        calls.push(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            extend_batch(registry, driver, batch, lease).await;
        });
    }
    calls
}

/// One call. It is given up when the first of the leases runs out.
async fn extend_batch(
    registry: &Registry,
    driver: &dyn driver::Consumer,
    batch: Vec<Due>,
    lease: Duration,
) {
    let receipts: Vec<Receipt> = batch
        .iter()
        .map(|due| due.entry().receipt.clone())
        .collect();
    let begun = registry.now();
    let first_end = batch
        .iter()
        .map(|due| due.entry().until.load(Ordering::Acquire))
        .min()
        .unwrap_or(begun);
    let results =
        match timeout_at(registry.instant(first_end), driver.extend(&receipts, lease)).await {
            Ok(results) => results,
            Err(_) => vec![
                Err(
                    Error::new(ErrorKind::Timeout, "no answer before the lease ran out")
                        .with_operation("extend")
                );
                batch.len()
            ],
        };
    let results = results.into_iter().map(Some).chain(std::iter::repeat(None));
    for (due, fate) in batch.into_iter().zip(results) {
        match fate {
            Some(Ok(())) => {
                // Counted from before the call, so that we never believe in a lease for longer
                // than the broker does.
                let last = due.group.last;
                let end = begun.saturating_add(nanos(lease));
                due.entry().until.store(end.min(last), Ordering::Release);
                let next = extend_at(begun, nanos(lease), last);
                due.entry().extend_at.store(next, Ordering::Release);
            }
            Some(Err(error)) if is_final(&error) => {
                // Also while its ack waits for an answer, which may have removed the message.
                let never = due.group.last;
                due.entry().extend_at.store(never, Ordering::Release);
                let is_held = |now| now == phase::HELD;
                if due.group.enter(due.index, phase::LOST, is_held) {
                    tracing::warn!(%error, queue = due.group.shared.queue_name(), "a lease is lost");
                }
            }
            fate => {
                let error = fate.and_then(Result::err);
                tracing::warn!(
                    error = error.map(tracing::field::display),
                    queue = due.group.shared.queue_name(),
                    "a lease could not be extended; it is tried again"
                );
                retry_soon(registry, &due);
            }
        }
    }
}

fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::NotFound)
}

/// Tries again after a quarter of what is left.
fn retry_soon(registry: &Registry, due: &Due) {
    let now = registry.now();
    let left = due
        .entry()
        .until
        .load(Ordering::Acquire)
        .saturating_sub(now);
    due.entry()
        .extend_at
        .store(now + (left / 4).max(1_000_000), Ordering::Release);
}
