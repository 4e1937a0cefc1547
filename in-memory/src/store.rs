//! Where messages are kept: slots in segments, and lanes that hand slots out in order.
//!
//! A lane is a log: messages are appended at its tail and leased at its head, so the order costs
//! nothing beyond the slots. A segment whose slots were all handed out and settled is used again,
//! or its memory is given back.

use std::collections::VecDeque;

use towpath_core::Message;

/// Slots per segment. Few, so that one message that is held for long keeps little memory.
const SLOTS: usize = 64;
/// How many empty segments keep their memory for the next messages.
const SPARE: usize = 64;

/// A point in time in nanoseconds since the queue was made.
pub(crate) type Nanos = u64;

/// The number of a slot.
pub(crate) type Address = u32;

/// A queued message with what the queue knows about it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    pub(crate) id: u64,
    pub(crate) sent_at: Nanos,
    /// How often it was delivered.
    pub(crate) attempt: u32,
    /// The number of its ordering group, or [`NO_GROUP`].
    pub(crate) group: u32,
}

/// The group of messages without an ordering key.
pub(crate) const NO_GROUP: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Slot {
    entry: Option<Entry>,
    /// The number of the lease; 0 while there is none.
    lease: u64,
    since: Nanos,
    until: Nanos,
}

impl Slot {
    fn new(entry: Entry) -> Self {
        Self {
            entry: Some(entry),
            lease: 0,
            since: 0,
            until: 0,
        }
    }

    /// Leases the message.
    pub(crate) fn grant(&mut self, lease: u64, since: Nanos, until: Nanos) -> &Entry {
        self.lease = lease;
        self.since = since;
        self.until = until;
        let entry = self.entry.as_mut().expect("a ready slot holds a message");
        entry.attempt = entry.attempt.saturating_add(1);
        entry
    }

    /// When the lease began.
    pub(crate) fn since(&self) -> Nanos {
        self.since
    }

    /// When the lease runs out.
    pub(crate) fn until(&self) -> Nanos {
        self.until
    }

    /// The ordering group of the message.
    pub(crate) fn group(&self) -> u32 {
        self.entry.as_ref().map_or(NO_GROUP, |entry| entry.group)
    }

    pub(crate) fn extend(&mut self, until: Nanos) {
        self.until = until;
    }
}

#[derive(Debug, Default)]
struct Segment {
    slots: Vec<Slot>,
    /// How many slots hold a message.
    live: usize,
    /// Whether a lane still appends to it or hands out of it.
    is_attached: bool,
    /// No message in it was sent before.
    oldest: Nanos,
}

/// All segments of a queue.
#[derive(Debug, Default)]
pub(crate) struct Store {
    segments: Vec<Segment>,
    /// Empty segments that kept their memory.
    spare: Vec<u32>,
    /// Empty segments without memory.
    empty: Vec<u32>,
}

impl Store {
    fn attach(&mut self) -> u32 {
        let number = self
            .spare
            .pop()
            .or_else(|| self.empty.pop())
            .unwrap_or_else(|| {
                self.segments.push(Segment::default());
                (self.segments.len() - 1) as u32
            });
        let segment = &mut self.segments[number as usize];
        segment.slots.reserve_exact(SLOTS);
        segment.is_attached = true;
        segment.oldest = Nanos::MAX;
        number
    }

    fn recycle(&mut self, number: u32) {
        let segment = &mut self.segments[number as usize];
        if segment.live > 0 || segment.is_attached {
            return;
        }
        if self.spare.len() < SPARE {
            segment.slots.clear();
            self.spare.push(number);
        } else {
            segment.slots = Vec::new();
            self.empty.push(number);
        }
    }

    /// The slot at `address`, when `lease` is its present lease.
    pub(crate) fn leased(&mut self, address: Address, lease: u64) -> Option<&mut Slot> {
        let (number, slot) = split(address);
        self.segments
            .get_mut(number)?
            .slots
            .get_mut(slot)
            .filter(|slot| slot.lease == lease && lease != 0)
    }

    /// Whether `lease` is the present lease of the slot at `address` and runs out at `until`.
    pub(crate) fn is_leased_until(&self, address: Address, lease: u64, until: Nanos) -> bool {
        let (number, slot) = split(address);
        self.segments
            .get(number)
            .and_then(|segment| segment.slots.get(slot))
            .is_some_and(|slot| slot.lease == lease && slot.until == until)
    }

    /// Takes the message out of its slot, when `lease` is its present lease.
    pub(crate) fn take(&mut self, address: Address, lease: u64) -> Option<Entry> {
        let slot = self.leased(address, lease)?;
        slot.lease = 0;
        let entry = slot.entry.take();
        self.release(address);
        entry
    }

    /// Removes the message from the slot, of which the caller knows that it is leased.
    pub(crate) fn remove(&mut self, address: Address) {
        let (number, slot) = split(address);
        if let Some(slot) = self.segments[number].slots.get_mut(slot) {
            slot.lease = 0;
            slot.entry = None;
        }
        self.release(address);
    }

    fn release(&mut self, address: Address) {
        let number = split(address).0;
        let segment = &mut self.segments[number];
        segment.live -= 1;
        if segment.live == 0 && !segment.is_attached {
            self.recycle(number as u32);
        }
    }

    /// How many segments have memory.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let segments = self.segments.iter();
        segments
            .filter(|segment| segment.slots.capacity() > 0)
            .count()
    }

    /// When the oldest message was sent.
    pub(crate) fn oldest(&self) -> Option<Nanos> {
        let mut oldest = Nanos::MAX;
        for segment in &self.segments {
            if segment.live > 0 && segment.oldest < oldest {
                let entries = segment.slots.iter().filter_map(|slot| slot.entry.as_ref());
                oldest = entries.map(|entry| entry.sent_at).fold(oldest, Nanos::min);
            }
        }
        (oldest != Nanos::MAX).then_some(oldest)
    }
}

fn split(address: Address) -> (usize, usize) {
    (address as usize / SLOTS, address as usize % SLOTS)
}

fn join(number: u32, slot: usize) -> Address {
    number * SLOTS as u32 + slot as u32
}

/// Messages in the order in which they are handed out.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    segments: VecDeque<u32>,
    /// The next slot of the first segment.
    head: usize,
    ready: usize,
}

impl Lane {
    /// How many messages are ready.
    pub(crate) fn len(&self) -> usize {
        self.ready
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready == 0
    }

    /// The last segment, with room for at least one message.
    fn tail<'a>(&mut self, store: &'a mut Store) -> &'a mut Segment {
        let number = match self.segments.back() {
            Some(number) if store.segments[*number as usize].slots.len() < SLOTS => *number,
            _ => {
                let number = store.attach();
                self.segments.push_back(number);
                number
            }
        };
        let segment = &mut store.segments[number as usize];
        if segment.live == 0 && self.ready == 0 {
            // All were handed out and settled: begin again while the memory is in the cache.
            segment.slots.clear();
            segment.oldest = Nanos::MAX;
            self.head = 0;
        }
        segment
    }

    /// Appends a message.
    pub(crate) fn push(&mut self, store: &mut Store, entry: Entry) {
        let segment = self.tail(store);
        segment.live += 1;
        segment.oldest = segment.oldest.min(entry.sent_at);
        segment.slots.push(Slot::new(entry));
        self.ready += 1;
    }

    /// Appends messages that were all sent at `sent_at`.
    pub(crate) fn extend(
        &mut self,
        store: &mut Store,
        sent_at: Nanos,
        entries: impl ExactSizeIterator<Item = Entry>,
    ) {
        let mut entries = entries;
        while entries.len() > 0 {
            let segment = self.tail(store);
            let before = segment.slots.len();
            let slots = entries.by_ref().take(SLOTS - before).map(Slot::new);
            segment.slots.extend(slots);
            let count = segment.slots.len() - before;
            segment.live += count;
            segment.oldest = segment.oldest.min(sent_at);
            self.ready += count;
        }
    }

    /// Hands out messages from the head: up to `most`, and fewer where the segment ends. `None`
    /// when there are none. The slots have consecutive addresses.
    pub(crate) fn hand_out<'a>(
        &mut self,
        store: &'a mut Store,
        most: usize,
    ) -> Option<(Address, &'a mut [Slot])> {
        let number = *self.segments.front()?;
        let head = self.head;
        let len = store.segments[number as usize].slots.len();
        let end = len.min(head + most.min(self.ready));
        if end == head {
            return None;
        }
        self.ready -= end - head;
        self.head = end;
        if self.head == SLOTS {
            self.segments.pop_front();
            self.head = 0;
            // Its slots are handed out below, so it is not empty.
            store.segments[number as usize].is_attached = false;
        }
        let slots = &mut store.segments[number as usize].slots[head..end];
        Some((join(number, head), slots))
    }

    /// Takes the first message out.
    pub(crate) fn pop(&mut self, store: &mut Store) -> Option<Entry> {
        let (address, slots) = self.hand_out(store, 1)?;
        let entry = slots.first_mut()?.entry.take();
        store.release(address);
        entry
    }

    /// The id of the first message.
    pub(crate) fn first_id(&self, store: &Store) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let number = *self.segments.front()?;
        let slot = store.segments[number as usize].slots.get(self.head)?;
        slot.entry.as_ref().map(|entry| entry.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_small() {
        assert!(size_of::<Slot>() <= 112, "{}", size_of::<Slot>());
    }
}
