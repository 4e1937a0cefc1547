//! What happened to each message of a run, and whether that may be.
//!
//! Load and fault runs note what they see in a [`History`], and [`check`](History::check) it at the
//! end. Messages are told apart by their idempotency keys, so each message sent has one of its own.
//! Who holds a message is told by the broker's id: a send without an answer that is tried again
//! leaves two copies of one message in the queue, and each has a holder of its own.
//!
//! ```
//! use towpath_conformance::history::History;
//! use towpath_core::{Envelope, Message};
//!
//! let history = History::new();
//! let message = Message::new("x");
//! history.accepted(&message);
//! let envelope = Envelope::new(1.into(), message);
//! history.received(&envelope, "worker-1");
//! history.acked(&envelope, "worker-1");
//! let ledger = history.check();
//! assert!(ledger.is_clean(), "{ledger}");
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use towpath_core::{Envelope, Message, MessageId};
use uuid::Uuid;

/// Notes what happens to messages. Cloning is cheap; clones write into the same history.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<Event>>>);

#[derive(Clone, Debug)]
struct Event {
    at: Instant,
    key: Uuid,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Accepted {
        content: u64,
        order: Option<String>,
    },
    Unknown {
        content: u64,
        order: Option<String>,
    },
    Received {
        content: u64,
        copy: MessageId,
        holder: String,
    },
    Acked {
        copy: MessageId,
        holder: String,
    },
    Released {
        copy: MessageId,
        holder: String,
    },
    DeadLettered {
        content: u64,
    },
    Left {
        content: u64,
    },
}

/// Body and attributes, as one number.
fn content(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.body().hash(&mut hasher);
    for attribute in message.attributes().iter() {
        attribute.hash(&mut hasher);
    }
    hasher.finish()
}

impl History {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, key: Uuid, what: What) {
        let mut events = self.events();
        let at = Instant::now();
        events.push(Event { at, key, what });
    }

    /// Its send returned `Ok`. The messages of an ordering key are noted in the order of sending,
    /// and before they can be received.
    pub fn accepted(&self, message: &Message) {
        let what = What::Accepted {
            content: content(message),
            order: message.ordering_key().map(str::to_owned),
        };
        self.note(message.idempotency_key(), what);
    }

    /// Nobody knows whether it was sent: it may appear or not.
    pub fn unknown(&self, message: &Message) {
        let what = What::Unknown {
            content: content(message),
            order: message.ordering_key().map(str::to_owned),
        };
        self.note(message.idempotency_key(), what);
    }

    /// `holder` was handed the message, with a lease.
    pub fn received(&self, envelope: &Envelope, holder: &str) {
        let what = What::Received {
            content: content(&envelope.message),
            copy: envelope.id.clone(),
            holder: holder.to_owned(),
        };
        self.note(envelope.message.idempotency_key(), what);
    }

    /// Its ack returned `Ok` to `holder`. Noted before another may be handed the message.
    pub fn acked(&self, envelope: &Envelope, holder: &str) {
        let what = What::Acked {
            copy: envelope.id.clone(),
            holder: holder.to_owned(),
        };
        self.note(envelope.message.idempotency_key(), what);
    }

    /// `holder` has it no more: it was given back, the lease was lost, or the holder crashed and
    /// its lease ran out. Noted before another may be handed the message.
    pub fn released(&self, envelope: &Envelope, holder: &str) {
        let what = What::Released {
            copy: envelope.id.clone(),
            holder: holder.to_owned(),
        };
        self.note(envelope.message.idempotency_key(), what);
    }

    /// It was found in the dead-letter queue.
    pub fn dead_lettered(&self, message: &Message) {
        let content = content(message);
        self.note(message.idempotency_key(), What::DeadLettered { content });
    }

    /// It was found in the queue at the end.
    pub fn left(&self, message: &Message) {
        let content = content(message);
        self.note(message.idempotency_key(), What::Left { content });
    }

    /// Says whether all of this may be.
    pub fn check(&self) -> Ledger {
        let mut run = Replay::default();
        for event in self.events().iter() {
            run.take(event);
        }
        run.finish()
    }

    /// What was noted of the messages with these keys, a line each with the seconds since the first
    /// note of all: what to look at when [`check`](Self::check) found something.
    pub fn trace(&self, keys: &BTreeSet<Uuid>) -> String {
        let events = self.events();
        let begun = events.first().map(|event| event.at);
        let lines = events.iter().filter(|event| keys.contains(&event.key));
        lines
            .map(|Event { at, key, what }| {
                let since = begun.map_or(0.0, |begun| (*at - begun).as_secs_f64());
                format!("{since:>10.3} s {key} {what}\n")
            })
            .collect()
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { .. } => f.write_str("accepted"),
            Self::Unknown { .. } => f.write_str("sent"),
            Self::Received { copy, holder, .. } => write!(f, "received by {holder} as {copy}"),
            Self::Acked { copy, holder } => write!(f, "acked by {holder} as {copy}"),
            Self::Released { copy, holder } => write!(f, "released by {holder} as {copy}"),
            Self::DeadLettered { .. } => f.write_str("found in the dead-letter queue"),
            Self::Left { .. } => f.write_str("found in the queue at the end"),
        }
    }
}

#[derive(Default)]
struct Replay {
    contents: HashMap<Uuid, u64>,
    accepted: BTreeSet<Uuid>,
    unknown: BTreeSet<Uuid>,
    done: BTreeSet<Uuid>,
    dead: BTreeSet<Uuid>,
    left: BTreeSet<Uuid>,
    /// By copy.
    holders: HashMap<(Uuid, MessageId), String>,
    /// Ordering key and place of each message.
    places: HashMap<Uuid, (String, usize)>,
    counts: BTreeMap<String, usize>,
    /// The place of the latest effect of each ordering key.
    effects: HashMap<String, usize>,
    ledger: Ledger,
}

impl Replay {
    fn send(&mut self, key: Uuid, content: u64, order: &Option<String>) {
        self.contents.insert(key, content);
        if let Some(order) = order {
            let count = self.counts.entry(order.clone()).or_default();
            self.places.insert(key, (order.clone(), *count));
            *count += 1;
        }
    }

    fn see(&mut self, key: Uuid, content: u64) {
        match self.contents.get(&key) {
            None => {
                self.ledger.unexpected.insert(key);
            }
            Some(sent) if *sent != content => {
                self.ledger.changed.insert(key);
            }
            Some(_) => {}
        }
    }

    /// `holder` has the copy no more; returns whether it had it.
    fn gives_up(&mut self, key: Uuid, copy: &MessageId, holder: &str) -> bool {
        let held = (key, copy.clone());
        let is_holder = self.holders.get(&held).is_some_and(|now| now == holder);
        if is_holder {
            self.holders.remove(&held);
        }
        is_holder
    }

    fn take(&mut self, Event { key, what, .. }: &Event) {
        let key = *key;
        match what {
            What::Accepted { content, order } => {
                self.send(key, *content, order);
                self.accepted.insert(key);
            }
            What::Unknown { content, order } => {
                self.send(key, *content, order);
                self.unknown.insert(key);
            }
            What::Received {
                content,
                copy,
                holder,
            } => {
                self.see(key, *content);
                let before = self.holders.insert((key, copy.clone()), holder.clone());
                if before.is_some() {
                    self.ledger.overlapping.insert(key);
                }
            }
            What::Acked { copy, holder } => {
                if !self.gives_up(key, copy, holder) {
                    self.ledger.false_acks.insert(key);
                }
                if self.done.insert(key)
                    && let Some((order, place)) = self.places.get(&key)
                    && let Some(before) = self.effects.insert(order.clone(), *place)
                    && before > *place
                {
                    self.ledger.out_of_order.insert(key);
                }
            }
            What::Released { copy, holder } => {
                self.gives_up(key, copy, holder);
            }
            What::DeadLettered { content } => {
                self.see(key, *content);
                if !self.dead.insert(key) {
                    self.ledger.in_two_places.insert(key);
                }
            }
            What::Left { content } => {
                self.see(key, *content);
                if !self.left.insert(key) {
                    self.ledger.in_two_places.insert(key);
                }
            }
        }
    }

    fn finish(mut self) -> Ledger {
        let ledger = &mut self.ledger;
        for key in &self.accepted {
            let places = [&self.done, &self.dead, &self.left];
            match places.iter().filter(|place| place.contains(key)).count() {
                0 => ledger.lost.insert(*key),
                1 => continue,
                _ => ledger.in_two_places.insert(*key),
            };
        }
        ledger.accepted = self.accepted.len();
        ledger.unknown = self.unknown.len();
        ledger.done = self.done.len();
        ledger.dead_lettered = self.dead.len();
        ledger.left = self.left.len();
        self.ledger
    }
}

/// What became of all messages, and what may not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// How many sends returned `Ok`.
    pub accepted: usize,
    /// How many sends ended without an answer.
    pub unknown: usize,
    /// How many messages were acked.
    pub done: usize,
    /// How many are in the dead-letter queue.
    pub dead_lettered: usize,
    /// How many are in the queue.
    pub left: usize,
    /// Accepted, and nowhere.
    pub lost: BTreeSet<Uuid>,
    /// Never sent, and somewhere.
    pub unexpected: BTreeSet<Uuid>,
    /// Accepted, and in more than one place. Brokers that deliver at least once may do that.
    pub in_two_places: BTreeSet<Uuid>,
    /// With another body or other attributes than were sent.
    pub changed: BTreeSet<Uuid>,
    /// Handed to a second holder while the first had a valid lease.
    pub overlapping: BTreeSet<Uuid>,
    /// Acked with `Ok` by one who did not hold it.
    pub false_acks: BTreeSet<Uuid>,
    /// Acked for the first time after a later message of its ordering key.
    pub out_of_order: BTreeSet<Uuid>,
}

impl Ledger {
    /// Whether nothing was lost, changed or made up: what holds everywhere.
    pub fn is_safe(&self) -> bool {
        self.lost.is_empty() && self.unexpected.is_empty() && self.changed.is_empty()
    }

    /// Whether nothing at all is wrong: what holds where deliveries are exact.
    pub fn is_clean(&self) -> bool {
        self.is_safe()
            && self.in_two_places.is_empty()
            && self.overlapping.is_empty()
            && self.false_acks.is_empty()
            && self.out_of_order.is_empty()
    }
}

/// `accepted=3 done=2 .. lost=0 ..`, in one line.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted={} unknown={} done={} dead_lettered={} left={} lost={} unexpected={} \
             in_two_places={} changed={} overlapping={} false_acks={} out_of_order={}",
            self.accepted,
            self.unknown,
            self.done,
            self.dead_lettered,
            self.left,
            self.lost.len(),
            self.unexpected.len(),
            self.in_two_places.len(),
            self.changed.len(),
            self.overlapping.len(),
            self.false_acks.len(),
            self.out_of_order.len(),
        )
    }
}

#[cfg(test)]
mod tests;
