//! What is in the spool, in memory: bounds, ages, and which queues have something.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{SpoolError, SpoolOptions};

/// One message in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) bytes: u64,
    pub(super) at: SystemTime,
    /// The queue refuses it for what it is.
    pub(super) is_refused: bool,
}

#[derive(Debug, Default)]
struct QueueTally {
    entries: BTreeMap<u64, Entry>,
    refused: usize,
    /// Room that was given to messages that are not in the file yet.
    pending: usize,
    is_unknown: bool,
}

impl QueueTally {
    fn has_live(&self) -> bool {
        self.entries.len() > self.refused
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    queues: BTreeMap<Arc<str>, QueueTally>,
    messages: usize,
    bytes: u64,
    is_broken: bool,
}

/// What a spool holds; see [`Spool::state`](super::Spool::state).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolState {
    /// Messages, also refused ones.
    pub messages: usize,
    /// The bytes that they take.
    pub bytes: u64,
    /// When the oldest of them was spooled.
    pub oldest: Option<SystemTime>,
    /// Whether another message would be taken: there is room, and the file can be written as far
    /// as is known.
    pub has_room: bool,
    /// Messages that their queue refuses for what they are: too large, say. They are kept, and
    /// tried again when the spool is opened the next time.
    pub refused: usize,
    /// Queues that have messages here, and that nobody knows. Their messages are kept until
    /// somebody does.
    pub unknown_queues: Vec<String>,
}

impl Tally {
    /// Takes room for a message, so that what is on its way counts too.
    pub(super) fn reserve(
        &mut self,
        queue: &Arc<str>,
        bytes: u64,
        options: &SpoolOptions,
    ) -> Result<(), SpoolError> {
        if self.messages >= options.max_messages
            || self.bytes.saturating_add(bytes) > options.max_bytes
        {
            return Err(SpoolError::Full {
                messages: self.messages,
                bytes: self.bytes,
            });
        }
        self.messages += 1;
        self.bytes += bytes;
        self.queues.entry(Arc::clone(queue)).or_default().pending += 1;
        Ok(())
    }

    /// The reserved message is in the file, or it is not.
    pub(super) fn settle(&mut self, queue: &Arc<str>, bytes: u64, written: Option<(u64, Entry)>) {
        let tally = self.queues.entry(Arc::clone(queue)).or_default();
        tally.pending -= 1;
        match written {
            Some((number, entry)) => {
                tally.entries.insert(number, entry);
            }
            None => {
                self.messages -= 1;
                self.bytes -= bytes;
                self.forget_if_empty(queue);
            }
        }
    }

    pub(super) fn remove(&mut self, queue: &str, numbers: &[u64]) {
        let Some(tally) = self.queues.get_mut(queue) else {
            return;
        };
        for number in numbers {
            if let Some(entry) = tally.entries.remove(number) {
                self.messages -= 1;
                self.bytes -= entry.bytes;
                tally.refused -= usize::from(entry.is_refused);
            }
        }
        self.forget_if_empty(queue);
    }

    fn forget_if_empty(&mut self, queue: &str) {
        let is_empty = |tally: &QueueTally| tally.entries.is_empty() && tally.pending == 0;
        if self.queues.get(queue).is_some_and(is_empty) {
            self.queues.remove(queue);
        }
    }

    /// Takes over what the file holds after it was opened again; what is on its way stays.
    pub(super) fn reload(&mut self, found: Vec<(Arc<str>, u64, Entry)>) {
        for tally in self.queues.values_mut() {
            for entry in std::mem::take(&mut tally.entries).into_values() {
                self.messages -= 1;
                self.bytes -= entry.bytes;
            }
            tally.refused = 0;
        }
        for (queue, number, entry) in found {
            self.messages += 1;
            self.bytes += entry.bytes;
            let tally = self.queues.entry(queue).or_default();
            tally.entries.insert(number, entry);
        }
        self.queues
            .retain(|_, tally| !tally.entries.is_empty() || tally.pending > 0);
    }

    pub(super) fn set_broken(&mut self, is_broken: bool) {
        self.is_broken = is_broken;
    }

    pub(super) fn refuse(&mut self, queue: &str, number: u64) {
        if let Some(tally) = self.queues.get_mut(queue)
            && let Some(entry) = tally.entries.get_mut(&number)
            && !std::mem::replace(&mut entry.is_refused, true)
        {
            tally.refused += 1;
        }
    }

    /// Notes whether anybody knows the queue; true when that is news.
    pub(super) fn set_unknown(&mut self, queue: &str, is_unknown: bool) -> bool {
        let tally = self.queues.get_mut(queue);
        tally
            .is_some_and(|tally| std::mem::replace(&mut tally.is_unknown, is_unknown) != is_unknown)
    }

    pub(super) fn has(&self, queue: &str) -> bool {
        let tally = self.queues.get(queue);
        tally.is_some_and(|tally| tally.pending > 0 || tally.has_live())
    }

    /// The queues that have something to send on.
    pub(super) fn live_queues(&self) -> Vec<Arc<str>> {
        let live = self.queues.iter().filter(|(_, tally)| tally.has_live());
        live.map(|(queue, _)| Arc::clone(queue)).collect()
    }

    /// The numbers of the first messages of a queue that are not refused: at least one, if there
    /// is one, then as many as are not too large together.
    pub(super) fn first(&self, queue: &str, count: usize, bytes: u64) -> Vec<u64> {
        let Some(tally) = self.queues.get(queue) else {
            return Vec::new();
        };
        let mut sum = 0u64;
        let live = tally.entries.iter().filter(|(_, entry)| !entry.is_refused);
        live.take(count)
            .take_while(|(_, entry)| {
                let is_first = sum == 0;
                sum = sum.saturating_add(entry.bytes);
                is_first || sum <= bytes
            })
            .map(|(number, _)| *number)
            .collect()
    }

    pub(super) fn state(&self, options: &SpoolOptions) -> SpoolState {
        let first = |tally: &QueueTally| tally.entries.values().next().map(|entry| entry.at);
        let unknown = self.queues.iter().filter(|(_, tally)| tally.is_unknown);
        SpoolState {
            messages: self.messages,
            bytes: self.bytes,
            oldest: self.queues.values().filter_map(first).min(),
            has_room: !self.is_broken
                && self.messages < options.max_messages
                && self.bytes < options.max_bytes,
            refused: self.queues.values().map(|tally| tally.refused).sum(),
            unknown_queues: unknown.map(|(queue, _)| queue.to_string()).collect(),
        }
    }

    pub(super) fn write_metrics(&self) {
        let first = |tally: &QueueTally| tally.entries.values().next().map(|entry| entry.at);
        let oldest = self.queues.values().filter_map(first).min();
        let age = oldest.map_or(Duration::ZERO, |at| at.elapsed().unwrap_or_default());
        let refused: usize = self.queues.values().map(|tally| tally.refused).sum();
        metrics::gauge!("towpath_webhook_spool_depth").set(self.messages as f64);
        metrics::gauge!("towpath_webhook_spool_bytes").set(self.bytes as f64);
        metrics::gauge!("towpath_webhook_spool_oldest_seconds").set(age.as_secs_f64());
        metrics::gauge!("towpath_webhook_spool_refused").set(refused as f64);
    }
}
