//! Who waits for a message, and who of them wakes by the clock.

use crate::store::Nanos;

/// The receivers that wait. One of them, the watch, sleeps until the next lease runs out or the
/// next delay is over; the others sleep until they are woken. A watch that leaves hands over.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: usize,
    next: u64,
    watch: Option<(u64, Nanos)>,
}

impl Waiters {
    /// Adds a receiver and returns its number.
    pub(crate) fn join(&mut self) -> u64 {
        self.count += 1;
        self.next += 1;
        self.next
    }

    /// Removes a receiver.
    pub(crate) fn leave(&mut self, number: u64) {
        self.count -= 1;
        if self.watch.is_some_and(|(watch, _)| watch == number) {
            self.watch = None;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether somebody is to be woken, because something is due before the watch wakes.
    pub(crate) fn needs_watch(&self, next: Option<Nanos>) -> bool {
        match (next, self.watch) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(next), Some((_, watch))) => next < watch,
        }
    }

    /// Makes the receiver the watch, when there is none that wakes early enough.
    pub(crate) fn watch(&mut self, number: u64, next: Option<Nanos>) {
        let is_me = self.watch.is_some_and(|(watch, _)| watch == number);
        if is_me {
            self.watch = None;
        }
        if self.needs_watch(next) {
            self.watch = next.map(|next| (number, next));
        }
    }

    /// When the receiver is to wake by itself.
    pub(crate) fn wake_at(&self, number: u64) -> Option<Nanos> {
        self.watch
            .filter(|(watch, _)| *watch == number)
            .map(|(_, at)| at)
    }
}
