//! What a consumer holds: what came, and who has it. No I/O and no clock of its own.

mod early;
mod planning;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::Instant};
use towpath_core::{Envelope, Error, Result};

pub(super) use early::{Early, Renewal, Replace};
pub(super) use settle::{Ack, Unheld};

use super::{
    order::{Order, Rank},
    streams::{StreamId, Streams},
};
use crate::options::Receiving;

/// How long streams stay open when nobody asks for messages.
const STREAM_LINGER: Duration = Duration::from_secs(1);
/// How long messages are kept that nobody asks for.
const BUFFER_LINGER: Duration = Duration::from_secs(5);

/// What settles a message at the service. Dropping it gives the message back.
pub(super) trait Handle {
    /// Whether the service confirms an ack.
    fn confirms(&self) -> bool;
}

/// A message that came.
pub(super) struct Arrival<H> {
    pub(super) id: Arc<str>,
    pub(super) key: Option<Arc<str>>,
    pub(super) rank: Rank,
    pub(super) envelope: Envelope,
    pub(super) bytes: usize,
    pub(super) handle: H,
    /// Where it came before its time.
    pub(super) early: Option<Box<Early>>,
}

/// The outcome of a confirmed ack, once it is there.
pub(super) type Outcome = watch::Receiver<Option<Result<()>>>;

struct Entry<H> {
    id: Arc<str>,
    key: Option<Arc<str>>,
    /// Until it is handed out; until it is settled where a copy may have to take its place.
    envelope: Option<Envelope>,
    bytes: usize,
    /// More than one where the service sent the message again meanwhile; the last is the valid one.
    handles: Vec<H>,
    /// By which streams it came.
    streams: Vec<StreamId>,
    came: Instant,
    phase: Phase,
}

enum Phase {
    /// Behind another one of its key.
    Waiting,
    /// For the next caller.
    Ready,
    /// Handed out, until then.
    Delivered(Instant),
    /// Given back, and held for its delay.
    Held,
    /// Held, because it came before its time.
    Early(Box<Early>),
    /// Its ack is being confirmed, or a copy takes its place.
    Confirming(Outcome),
}

enum Timer {
    /// The delay of a message is over.
    Held(u64),
    /// A copy that came early is due, or was held for long enough.
    Early(u64),
    /// The wait of an ordering key is over.
    Key(Arc<str>),
}

pub(super) struct State<H> {
    receiving: Receiving,
    is_ordered: bool,
    /// Whether copies may take the place of messages.
    pub(super) is_copying: bool,
    is_closed: bool,
    entries: HashMap<u64, Entry<H>>,
    by_id: HashMap<Arc<str>, u64>,
    next_entry: u64,
    ready: VecDeque<u64>,
    order: Order,
    timers: BTreeMap<(Instant, u64), Timer>,
    next_timer: u64,
    held: usize,
    bytes: usize,
    next_sweep: Instant,
    pub(super) streams: Streams,
    /// How many messages callers are waiting for.
    waiting: usize,
    /// For how many the last caller asked, and when.
    asked: usize,
    last_ask: Option<Instant>,
    /// When a message was last settled.
    last_settled: Option<Instant>,
    starved_since: Option<Instant>,
    /// When the service was last known to be well.
    last_sign: Instant,
    last_arrival: Instant,
    last_probe: Option<Instant>,
    is_probing: bool,
    is_failing: bool,
    error: Option<Error>,
    /// When the next plan is made, so that callers know whether to ask for one.
    planned: Instant,
}

impl<H: Handle> State<H> {
    pub(super) fn new(receiving: Receiving, is_ordered: bool, now: Instant) -> Self {
        Self {
            receiving,
            is_ordered,
            is_copying: false,
            is_closed: false,
            entries: HashMap::new(),
            by_id: HashMap::new(),
            next_entry: 0,
            ready: VecDeque::new(),
            order: Order::default(),
            timers: BTreeMap::new(),
            next_timer: 0,
            held: 0,
            bytes: 0,
            next_sweep: now,
            streams: Streams::default(),
            waiting: 0,
            asked: 1,
            last_ask: None,
            last_settled: None,
            starved_since: None,
            last_sign: now,
            last_arrival: now,
            last_probe: None,
            is_probing: false,
            is_failing: false,
            error: None,
            planned: now,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether so much is held that no more should be read. The service keeps to the limits of the
    /// streams; this is for servers that do not.
    pub(super) fn is_full(&self) -> bool {
        let most = self.receiving.max_outstanding + self.receiving.max_held;
        self.entries.len() >= most * 2 || self.bytes >= self.receiving.max_outstanding_bytes * 2
    }

    /// Whether messages are with callers, or on their way back from them.
    pub(super) fn has_delivered(&self) -> bool {
        self.entries
            .values()
            .any(|entry| matches!(entry.phase, Phase::Delivered(_) | Phase::Confirming(_)))
    }

    // Arrivals

    /// Takes what came by a stream. Returns what goes back at once.
    pub(super) fn arrived(
        &mut self,
        stream: StreamId,
        arrivals: impl IntoIterator<Item = Arrival<H>>,
        now: Instant,
    ) -> Vec<H> {
        if self.is_closed {
            return arrivals.into_iter().map(|arrival| arrival.handle).collect();
        }
        self.last_sign = now;
        self.last_arrival = now;
        self.error = None;
        for mut arrival in arrivals {
            self.streams.received(stream, arrival.bytes);
            match self.by_id.get(&arrival.id) {
                Some(entry) => self.came_again(*entry, stream, arrival),
                None => match arrival.early.take() {
                    None => self.came(stream, arrival, now),
                    Some(early) => self.came_early(stream, arrival, early, now),
                },
            }
        }
        Vec::new()
    }

    fn came(&mut self, stream: StreamId, arrival: Arrival<H>, now: Instant) {
        let number = self.next_entry;
        self.next_entry += 1;
        let key = arrival.key.filter(|_| self.is_ordered);
        self.by_id.insert(arrival.id.clone(), number);
        self.bytes += arrival.bytes;
        let entry = Entry {
            id: arrival.id.clone(),
            key: key.clone(),
            envelope: Some(arrival.envelope),
            bytes: arrival.bytes,
            handles: vec![arrival.handle],
            streams: vec![stream],
            came: now,
            phase: Phase::Waiting,
        };
        self.entries.insert(number, entry);
        let turn = match &key {
            Some(key) => self.order.arrive(key, number, &arrival.id, arrival.rank),
            None => Some(number),
        };
        self.make_ready(turn);
    }

    /// The service sent a message that is still here: its lease was lost for a moment, or it is a
    /// duplicate. It is one message all the same, and settled as one.
    fn came_again(&mut self, number: u64, stream: StreamId, arrival: Arrival<H>) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.handles.push(arrival.handle);
        entry.streams.push(stream);
        if matches!(entry.phase, Phase::Waiting)
            && let Some(key) = entry.key.clone()
        {
            let turn = self.order.again(&key, number);
            self.make_ready(turn);
        }
    }

    fn make_ready(&mut self, turn: Option<u64>) {
        if let Some(number) = turn
            && let Some(entry) = self.entries.get_mut(&number)
        {
            entry.phase = Phase::Ready;
            self.ready.push_back(number);
        }
    }

    // Callers

    /// Hands out up to `most` messages. Returns besides what was sent before the subscription was
    /// `purged`, to be acked.
    pub(super) fn take(
        &mut self,
        most: usize,
        purged: Option<SystemTime>,
        now: Instant,
    ) -> (Vec<(u64, Envelope)>, Vec<H>) {
        self.asked = most;
        self.last_ask = Some(now);
        let until = now + self.receiving.max_lease;
        let mut taken = Vec::new();
        let mut unwanted = Vec::new();
        while taken.len() < most
            && let Some(number) = self.ready.pop_front()
        {
            if let Some(entry) = self.entries.get_mut(&number)
                && let Some(envelope) = if self.is_copying {
                    entry.envelope.clone()
                } else {
                    entry.envelope.take()
                }
            {
                if envelope.sent_at.is_some() && envelope.sent_at < purged {
                    unwanted.extend(self.done(number, now));
                    continue;
                }
                entry.phase = Phase::Delivered(until);
                taken.push((number, envelope));
            }
        }
        (taken, unwanted)
    }

    /// Whether there is something for the next caller.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What went wrong since the last caller was told.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// A caller waits for up to `most` messages. Returns whether a plan is needed.
    pub(super) fn wait_for(&mut self, most: usize, now: Instant) -> bool {
        if self.waiting == 0 && self.streams.is_empty() {
            // The silence before does not count.
            self.last_sign = self.last_sign.max(now);
            self.last_arrival = self.last_arrival.max(now);
        }
        self.waiting += most;
        self.needs_plan(now)
    }

    /// A caller that waited for up to `most` messages waits no more. Returns whether a plan is
    /// needed.
    pub(super) fn waited(&mut self, most: usize, now: Instant) -> bool {
        self.waiting = self.waiting.saturating_sub(most);
        self.last_ask = Some(now);
        self.planned > now + STREAM_LINGER || (self.waiting > 0 && self.needs_plan(now))
    }

    /// Whether something about the streams may have to be done before the next plan.
    pub(super) fn needs_plan(&mut self, now: Instant) -> bool {
        self.waiting > 0
            && self.ready.is_empty()
            && (self.planned > now + self.receiving.health_interval
                || self.streams.is_empty()
                || self.streams.is_saturated(now))
    }

    /// No more is taken and handed out. Returns what nobody has seen, or waits for its delay.
    pub(super) fn close(&mut self, now: Instant) -> Vec<H> {
        self.is_closed = true;
        self.timers.clear();
        self.ready.clear();
        let unseen: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                matches!(
                    entry.phase,
                    Phase::Waiting | Phase::Ready | Phase::Held | Phase::Early(_)
                )
            })
            .map(|(number, _)| *number)
            .collect();
        unseen
            .into_iter()
            .filter_map(|number| self.remove(number, now))
            .flat_map(|entry| entry.handles)
            .collect()
    }
}
