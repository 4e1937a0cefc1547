//! Messages with an ordering key: one group per key, and at most one message of it unsettled.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use slab::Slab;

use crate::store::{Entry, Nanos};

/// A message that waits for its turn.
#[derive(Debug)]
struct Waiting {
    entry: Entry,
    /// Not handed out before; 0 for at once.
    visible_at: Nanos,
}

#[derive(Debug)]
struct Group {
    key: Arc<str>,
    waiting: VecDeque<Waiting>,
    is_leased: bool,
    /// Whether it stands in the line of groups that have a message to hand out.
    is_ready: bool,
    /// Acked messages that come back, because the broker lost the ack of the first of them.
    replay: Vec<Entry>,
}

/// The groups of a queue.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_key: HashMap<Arc<str>, u32>,
    groups: Slab<Group>,
    ready: VecDeque<u32>,
}

impl Groups {
    /// Appends a message of `key` and returns its group.
    pub(crate) fn push(
        &mut self,
        key: &str,
        mut entry: Entry,
        visible_at: Nanos,
        now: Nanos,
    ) -> u32 {
        let number = match self.by_key.get(key) {
            Some(number) => *number,
            None => {
                let key: Arc<str> = key.into();
                let number = self.groups.insert(Group {
                    key: key.clone(),
                    waiting: VecDeque::with_capacity(1),
                    is_leased: false,
                    is_ready: false,
                    replay: Vec::new(),
                }) as u32;
                self.by_key.insert(key, number);
                number
            }
        };
        entry.group = number;
        if let Some(group) = self.groups.get_mut(number as usize) {
            group.waiting.push_back(Waiting { entry, visible_at });
        }
        self.refresh(number, now);
        number
    }

    /// The id of the message that is handed out next.
    pub(crate) fn first_id(&self) -> Option<u64> {
        let number = *self.ready.front()? as usize;
        let first = self.groups.get(number)?.waiting.front()?;
        Some(first.entry.id)
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Hands out the next message and locks its key.
    pub(crate) fn take(&mut self) -> Option<Entry> {
        let number = self.ready.pop_front()?;
        let group = self.groups.get_mut(number as usize)?;
        group.is_ready = false;
        group.is_leased = true;
        group.waiting.pop_front().map(|waiting| waiting.entry)
    }

    /// Unlocks the key: its message was removed.
    pub(crate) fn settled(&mut self, number: u32, now: Nanos) {
        if let Some(group) = self.groups.get_mut(number as usize) {
            group.is_leased = false;
        }
        self.refresh(number, now);
    }

    /// Unlocks the key and puts its message back in front of the others.
    pub(crate) fn returned(&mut self, entry: Entry, visible_at: Nanos, now: Nanos) {
        let number = entry.group;
        if let Some(group) = self.groups.get_mut(number as usize) {
            group.is_leased = false;
            group.waiting.push_front(Waiting { entry, visible_at });
        }
        self.refresh(number, now);
    }

    /// Whether acked messages of the group are kept, to come again.
    pub(crate) fn is_replaying(&self, number: u32) -> bool {
        self.groups
            .get(number as usize)
            .is_some_and(|group| !group.replay.is_empty())
    }

    /// Keeps an acked message and unlocks its key, as if the ack had worked.
    pub(crate) fn keep(&mut self, entry: Entry, now: Nanos) {
        let number = entry.group;
        if let Some(group) = self.groups.get_mut(number as usize) {
            group.replay.push(entry);
            group.is_leased = false;
        }
        self.refresh(number, now);
    }

    /// Puts the kept messages back in front, in their order; returns how many.
    pub(crate) fn replay(&mut self, number: u32, now: Nanos) -> usize {
        let Some(group) = self.groups.get_mut(number as usize) else {
            return 0;
        };
        let kept = std::mem::take(&mut group.replay);
        let count = kept.len();
        for entry in kept.into_iter().rev() {
            group.waiting.push_front(Waiting {
                entry,
                visible_at: 0,
            });
        }
        self.refresh(number, now);
        count
    }

    /// Puts the group in line when it has a message to hand out, and forgets it when it is empty.
    pub(crate) fn refresh(&mut self, number: u32, now: Nanos) {
        let Some(group) = self.groups.get_mut(number as usize) else {
            return;
        };
        if group.is_leased || group.is_ready {
            return;
        }
        match group.waiting.front() {
            Some(first) if first.visible_at <= now => {
                group.is_ready = true;
                self.ready.push_back(number);
            }
            Some(_) => {}
            None if group.replay.is_empty() => {
                let group = self.groups.remove(number as usize);
                self.by_key.remove(&group.key);
            }
            None => {}
        }
    }

    /// When the oldest waiting message was sent.
    pub(crate) fn oldest(&self) -> Option<Nanos> {
        self.groups
            .iter()
            .filter_map(|(_, group)| group.waiting.front())
            .map(|waiting| waiting.entry.sent_at)
            .min()
    }
}
