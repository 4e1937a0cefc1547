//! The leases of live deliveries: kept alive, and told when they are lost.
//!
//! Messages that are received together share a [`Group`], so that a batch costs one allocation and
//! one entry in the registry. The [keeper] task wakes at about half of a lease and extends what is
//! still held.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use slab::Slab;
use tokio::{sync::Notify, time::Instant};

use super::{
    Shared,
    settle::{self, Operation},
    turn::{Turn, predecessors},
};
use crate::{
    Delivery, Error, ErrorKind, Result,
    driver::{Receipt, Received},
};
pub(super) use keeper::keep;

mod keeper;

/// The phases of a lease, in the low bits of [`Entry::state`].
mod phase {
    /// Held by a delivery.
    pub(super) const HELD: u8 = 0;
    /// An ack is under way; the lease is still kept.
    pub(super) const ACKING: u8 = 1;
    /// A nack is under way; the lease must not be extended any more.
    pub(super) const NACKING: u8 = 2;
    /// Given back, or given up.
    pub(super) const DONE: u8 = 3;
    /// Gone.
    pub(super) const LOST: u8 = 4;
    /// Acked.
    pub(super) const ACKED: u8 = 5;
    /// The mask of the phase.
    pub(super) const MASK: u8 = 0x0f;
    /// Set while an extension is under way.
    pub(super) const EXTENDING: u8 = 0x80;
}

/// The leases of messages that were received together.
pub(crate) struct Group {
    shared: Arc<Shared>,
    slot: usize,
    entries: Box<[Entry]>,
    /// When no more extensions are made, in nanoseconds of the registry's clock.
    last: u64,
    changed: Notify,
    /// Whether any of the messages waits for another.
    has_turns: bool,
}

struct Entry {
    receipt: Receipt,
    state: AtomicU8,
    /// When the lease runs out, in nanoseconds of the registry's clock.
    until: AtomicU64,
    /// When it is to be extended, by the same clock. From `last` on it is not.
    extend_at: AtomicU64,
    /// The place of the message before it with the same ordering key.
    after: Option<u32>,
}

impl Group {
    /// Moves an entry to `next` when `from` agrees with its present phase.
    fn enter(&self, index: usize, next: u8, from: impl Fn(u8) -> bool) -> bool {
        let is_entered = self.entries[index].enter(next, from);
        if is_entered && self.has_turns {
            // It may be the turn of one that waits, or never.
            self.shared.turns.notify_one();
        }
        is_entered
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.leases.groups().try_remove(self.slot);
    }
}

/// All groups of a consumer.
pub(crate) struct Registry {
    epoch: Instant,
    groups: Mutex<Slab<Weak<Group>>>,
    /// When the keeper wakes next; `u64::MAX` while it does not know of a lease.
    next_wake: AtomicU64,
    wake: Notify,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            groups: Mutex::new(Slab::new()),
            next_wake: AtomicU64::new(u64::MAX),
            wake: Notify::new(),
        }
    }

    fn groups(&self) -> MutexGuard<'_, Slab<Weak<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }

    fn nanos_at(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.epoch))
    }

    fn instant(&self, at: u64) -> Instant {
        let far = Duration::from_secs(86_400 * 365);
        self.epoch + Duration::from_nanos(at).min(far)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Makes deliveries of what was received just now. The leases began at the latest at `latest`,
/// where that is known: an answer may have waited for us, and its leases did not.
pub(super) fn register(
    shared: &Arc<Shared>,
    received: Vec<Received>,
    latest: Option<Instant>,
) -> Vec<Delivery> {
    if received.is_empty() {
        return Vec::new();
    }
    let registry = &shared.leases;
    let now = latest.map_or_else(
        || registry.now(),
        |latest| registry.now().min(registry.nanos_at(latest)),
    );
    let last = now.saturating_add(nanos(shared.max_hold()));
    let (first_end, extend_at) = match shared.lease_duration() {
        Some(duration) => {
            let mut end = now.saturating_add(nanos(duration));
            if shared.capabilities().gather {
                end -= nanos(on_the_way(duration));
            }
            (end.min(last), extend_at(now, nanos(duration), last))
        }
        None => (last, u64::MAX),
    };
    let mut entries: Box<[Entry]> = received
        .iter()
        .map(|received| Entry {
            receipt: received.receipt.clone(),
            state: AtomicU8::new(phase::HELD),
            until: AtomicU64::new(first_end),
            extend_at: AtomicU64::new(extend_at),
            after: None,
        })
        .collect();
    if shared.has_turns {
        for (entry, after) in entries.iter_mut().zip(predecessors(&received)) {
            entry.after = after;
        }
    }
    let has_turns = entries.iter().any(|entry| entry.after.is_some());
    let group = Arc::new_cyclic(|group: &Weak<Group>| Group {
        slot: registry.groups().insert(group.clone()),
        shared: shared.clone(),
        entries,
        last,
        changed: Notify::new(),
        has_turns,
    });
    if first_end.min(extend_at) < registry.next_wake.load(Ordering::Acquire) {
        registry.wake.notify_one();
    }
    received
        .into_iter()
        .enumerate()
        .map(|(index, Received { mut envelope, .. })| {
            shared.releases.correct(&mut envelope);
            Delivery::new(
                envelope,
                LeaseRef {
                    group: group.clone(),
                    index,
                },
            )
        })
        .collect()
}

/// How much earlier than its answer came a lease may have begun, where that is a request: we never
/// believe in a lease for longer than the broker does.
fn on_the_way(lease: Duration) -> Duration {
    (lease / 20).min(Duration::from_secs(1))
}

/// When a lease of this length that began at `begun` is to be extended. One that reaches the longest
/// time is not extended again.
fn extend_at(begun: u64, lease: u64, last: u64) -> u64 {
    if begun.saturating_add(lease) < last {
        begun.saturating_add(lease / 2)
    } else {
        last
    }
}

/// The lease of one delivery. Dropping it while it is held releases the message.
pub(crate) struct LeaseRef {
    group: Arc<Group>,
    index: usize,
}

impl AsRef<LeaseRef> for LeaseRef {
    fn as_ref(&self) -> &LeaseRef {
        self
    }
}

impl LeaseRef {
    fn entry(&self) -> &Entry {
        &self.group.entries[self.index]
    }

    pub(crate) fn consumer(&self) -> &Arc<Shared> {
        &self.group.shared
    }

    pub(crate) fn receipt(&self) -> &Receipt {
        &self.entry().receipt
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.entry().phase() == phase::LOST
            || self.group.shared.leases.now() >= self.entry().until.load(Ordering::Acquire)
    }

    /// When the lease runs out unless it is extended.
    pub(crate) fn until(&self) -> Instant {
        self.group
            .shared
            .leases
            .instant(self.entry().until.load(Ordering::Acquire))
    }

    pub(crate) async fn lost(&self) {
        loop {
            let changed = self.group.changed.notified();
            tokio::pin!(changed);
            // Registered before the check, so that no change in between is missed.
            changed.as_mut().enable();
            if self.is_lost() {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn abandon(self) {
        self.group.enter(self.index, phase::DONE, |_| true);
    }

    /// Whether it may be handed out.
    pub(crate) fn turn(&self) -> Turn {
        let Some(after) = self.entry().after else {
            return Turn::Now;
        };
        let before = &self.group.entries[after as usize];
        let is_over = || self.now() >= before.until.load(Ordering::Acquire);
        match before.phase() {
            phase::ACKED => Turn::Now,
            phase::ACKING => Turn::Later,
            phase::HELD if !is_over() => Turn::Later,
            _ => Turn::Never,
        }
    }

    pub(crate) async fn settle(self, operation: Operation) -> Result<(), (Error, Option<Self>)> {
        let shared = self.consumer().clone();
        if shared.capabilities().gather {
            settle::submit(self, operation).await
        } else {
            settle::directly_one(&*shared.driver, self, operation).await
        }
    }

    /// Marks that a settlement is under way, at `now` of the registry's clock.
    pub(crate) fn begin(&self, operation: Operation, now: u64) -> Result<()> {
        let entry = self.entry();
        let is_over = now >= entry.until.load(Ordering::Acquire);
        let next = match (is_over, operation) {
            (true, _) => phase::LOST,
            (false, Operation::Ack) => phase::ACKING,
            (false, Operation::Nack(_)) => phase::NACKING,
        };
        let is_held = |now| now == phase::HELD;
        if self.group.enter(self.index, next, is_held) && !is_over {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::LeaseLost,
            "the lease ran out before the message was settled; another consumer may have it",
        )
        .with_operation(operation.name()))
    }

    /// Waits until no extension is under way, so that a nack is not undone by one.
    pub(crate) async fn not_extending(&self) {
        loop {
            let changed = self.group.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.entry().state.load(Ordering::Acquire) & phase::EXTENDING == 0 {
                return;
            }
            changed.await;
        }
    }

    /// The time by the registry's clock.
    pub(crate) fn now(&self) -> u64 {
        self.group.shared.leases.now()
    }

    /// Notes how the settlement ended: settled or lost for good, or held as before.
    pub(crate) fn end(&self, result: &Result<()>) {
        let is_ack = self.entry().phase() == phase::ACKING;
        let next = match result {
            Ok(()) if is_ack => phase::ACKED,
            Ok(()) => phase::DONE,
            Err(error) if error.kind() == ErrorKind::LeaseLost => phase::LOST,
            Err(_) => phase::HELD,
        };
        self.group.enter(self.index, next, |_| true);
    }
}

impl Drop for LeaseRef {
    fn drop(&mut self) {
        let is_held = |now| now == phase::HELD;
        if self.group.enter(self.index, phase::NACKING, is_held) && !self.is_lost() {
            let lease = Self {
                group: self.group.clone(),
                index: self.index,
            };
            settle::release(&self.group.shared.settler, lease);
        }
    }
}

impl Entry {
    fn phase(&self) -> u8 {
        self.state.load(Ordering::Acquire) & phase::MASK
    }

    /// Moves to `next` when `from` agrees with the present phase; keeps the extension mark.
    fn enter(&self, next: u8, from: impl Fn(u8) -> bool) -> bool {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                from(state & phase::MASK).then_some(state & !phase::MASK | next)
            })
            .is_ok()
    }
}
