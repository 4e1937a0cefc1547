//! What a consumer holds, and what is to be done next. No I/O and no clock of its own.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use towpath_core::{Envelope, Error, Result};

use super::{
    order::{Next, Order, Rank},
    streams::{StreamId, Streams},
};
use crate::options::Receiving;

/// How long streams stay open when nobody asks for messages.
pub(super) const STREAM_LINGER: Duration = Duration::from_secs(1);
/// How long messages are kept that nobody asks for.
pub(super) const BUFFER_LINGER: Duration = Duration::from_secs(5);
/// How long callers are kept waiting before more messages are allowed to come.
const STARVED: Duration = Duration::from_millis(20);
/// How often the service is asked again while it does not answer.
const RECOVERY: Duration = Duration::from_secs(2);
/// After how long a silence connections are made anew: one that is half dead is silent, too.
const RENEWAL: Duration = Duration::from_secs(300);
/// What counts as never.
const FAR: Duration = Duration::from_secs(3_600);

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
}

/// The outcome of a confirmed ack, once it is there.
pub(super) type Outcome = watch::Receiver<Option<Result<()>>>;

struct Entry<H> {
    id: Arc<str>,
    key: Option<Arc<str>>,
    /// Until it is handed out.
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
    /// Its ack is being confirmed.
    Confirming(Outcome),
}

enum Timer {
    /// The delay of a message is over.
    Held(u64),
    /// The wait of an ordering key is over.
    Key(Arc<str>),
}

/// How an ack goes on.
pub(super) enum Ack<H> {
    /// The message is not held any more.
    Lost,
    /// To be sent; nobody will tell how it ended.
    Submit(Vec<H>),
    /// To be sent, and the outcome reported.
    Confirm(Vec<H>),
    /// It was sent before; this is its outcome.
    Pending(Outcome),
}

/// Why a message cannot be held for a delay.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unheld {
    /// It is not there any more.
    Lost,
    /// There is no room; the next becomes free then.
    Full(Instant),
}

/// What is to be done now.
pub(super) struct Plan<H> {
    /// Messages to give back.
    pub(super) release: Vec<H>,
    /// A stream to open, for so many messages.
    pub(super) open: Option<usize>,
    /// Streams to close.
    pub(super) close: Vec<CancellationToken>,
    /// Whether new streams need a new connection.
    pub(super) renew: bool,
    /// Whether the service is to be asked if all is well.
    pub(super) probe: bool,
    /// Whether callers have something to look at.
    pub(super) wake_callers: bool,
    /// When to plan again.
    pub(super) next: Instant,
}

pub(super) struct State<H> {
    receiving: Receiving,
    is_ordered: bool,
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
        arrivals: Vec<Arrival<H>>,
        now: Instant,
    ) -> Vec<H> {
        if self.is_closed {
            return arrivals.into_iter().map(|arrival| arrival.handle).collect();
        }
        self.last_sign = now;
        self.last_arrival = now;
        self.error = None;
        for arrival in arrivals {
            self.streams.received(stream);
            match self.by_id.get(&arrival.id) {
                Some(entry) => self.came_again(*entry, stream, arrival),
                None => self.came(stream, arrival, now),
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
                && let Some(envelope) = entry.envelope.take()
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

    // Settling

    /// Begins an ack of what was handed out.
    pub(super) fn ack(&mut self, number: u64, now: Instant) -> Ack<H> {
        let Some(entry) = self.entries.get_mut(&number) else {
            return Ack::Lost;
        };
        match &entry.phase {
            Phase::Delivered(_) => {}
            Phase::Confirming(outcome) => return Ack::Pending(outcome.clone()),
            Phase::Waiting | Phase::Ready | Phase::Held => return Ack::Lost,
        }
        if entry.handles.last().is_some_and(Handle::confirms) {
            return Ack::Confirm(std::mem::take(&mut entry.handles));
        }
        Ack::Submit(self.done(number, now))
    }

    /// Notes where the outcome of an ack that is being confirmed will be.
    pub(super) fn confirming(&mut self, number: u64, outcome: Outcome) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.phase = Phase::Confirming(outcome);
        }
    }

    /// The ack of a message was confirmed. Returns what came of it again meanwhile, to be acked.
    pub(super) fn done(&mut self, number: u64, now: Instant) -> Vec<H> {
        let Some(entry) = self.remove(number, now) else {
            return Vec::new();
        };
        if let Some(key) = &entry.key {
            let next = self.order.done(key, now);
            self.turn(key, next);
        }
        entry.handles
    }

    /// A message is given back. Returns what to nack: with an ordering key also the messages that
    /// must not overtake it.
    pub(super) fn failed(&mut self, number: u64, now: Instant) -> Vec<H> {
        let Some(entry) = self.remove(number, now) else {
            return Vec::new();
        };
        let mut release = entry.handles;
        if let Some(key) = &entry.key {
            let (waiting, until) = self.order.failed(key, &entry.id, now);
            for number in waiting {
                release.extend(self.remove(number, now).into_iter().flat_map(|e| e.handles));
            }
            if let Some(until) = until {
                self.set_timer(until, Timer::Key(key.clone()));
            }
        }
        release
    }

    /// Nacks what was handed out; `None` where it is not held any more.
    pub(super) fn nack(&mut self, number: u64, now: Instant) -> Option<Vec<H>> {
        self.is_delivered(number).then(|| self.failed(number, now))
    }

    fn is_delivered(&self, number: u64) -> bool {
        let entry = self.entries.get(&number);
        entry.is_some_and(|entry| matches!(entry.phase, Phase::Delivered(_)))
    }

    /// Holds what was handed out until `due`, and gives it back then.
    pub(super) fn hold(&mut self, number: u64, due: Instant) -> Result<(), Unheld> {
        if !self.is_delivered(number) {
            return Err(Unheld::Lost);
        }
        if self.held >= self.receiving.max_held {
            let first = self
                .timers
                .iter()
                .find(|(_, timer)| matches!(timer, Timer::Held(_)));
            return Err(Unheld::Full(first.map_or(due, |((at, _), _)| *at)));
        }
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.phase = Phase::Held;
            self.held += 1;
            self.set_timer(due, Timer::Held(number));
        }
        Ok(())
    }

    /// Whether a timer is due before the next plan.
    pub(super) fn is_late(&self) -> bool {
        let first = self.timers.first_key_value();
        first.is_some_and(|((at, _), _)| *at < self.planned)
    }

    fn turn(&mut self, key: &Arc<str>, next: Next) {
        match next {
            Next::Nobody => {}
            Next::Entry(number) => self.make_ready(Some(number)),
            Next::At(at) => self.set_timer(at, Timer::Key(key.clone())),
        }
    }

    fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, self.next_timer), timer);
        self.next_timer += 1;
    }

    fn remove(&mut self, number: u64, now: Instant) -> Option<Entry<H>> {
        let entry = self.entries.remove(&number)?;
        self.by_id.remove(&entry.id);
        self.bytes -= entry.bytes;
        match entry.phase {
            Phase::Held => self.held -= 1,
            Phase::Ready => self.ready.retain(|other| *other != number),
            Phase::Waiting | Phase::Delivered(_) | Phase::Confirming(_) => {}
        }
        for stream in &entry.streams {
            self.streams.settled(*stream, now);
        }
        Some(entry)
    }

    // Planning

    /// What is to be done now, and when to ask again.
    pub(super) fn plan(&mut self, now: Instant) -> Plan<H> {
        let mut plan = Plan {
            release: Vec::new(),
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
        let is_asked = self.waiting > 0 || since_ask.is_some_and(|since| since < STREAM_LINGER);
        if is_asked {
            if self.waiting == 0 {
                plan.next = plan.next.min(now + STREAM_LINGER);
            }
            self.watch(now, &mut plan);
            self.adjust(now, &mut plan);
        } else {
            self.starved_since = None;
            plan.close = self.streams.close();
            self.drop_unwanted(since_ask, now, &mut plan);
        }
        plan.wake_callers = self.waiting > 0 && (!self.ready.is_empty() || self.error.is_some());
        plan.next = plan.next.max(now + Duration::from_millis(1));
        self.planned = plan.next;
        plan
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
                    Phase::Held | Phase::Confirming(_) => false,
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
    pub(super) fn probed(&mut self, result: Result<()>, now: Instant) -> Vec<CancellationToken> {
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
    pub(super) fn stream_failed(&mut self, error: Error) {
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
            let all = most + self.receiving.max_held - self.streams.limit();
            room = room.max(most / 8).min(all).max(1);
        }
        plan.open = Some(open.max(want).min(room));
    }

    /// No more is taken and handed out. Returns what nobody has seen, or waits for its delay.
    pub(super) fn close(&mut self, now: Instant) -> Vec<H> {
        self.is_closed = true;
        self.timers.clear();
        self.ready.clear();
        let unseen: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.phase, Phase::Waiting | Phase::Ready | Phase::Held))
            .map(|(number, _)| *number)
            .collect();
        unseen
            .into_iter()
            .filter_map(|number| self.remove(number, now))
            .flat_map(|entry| entry.handles)
            .collect()
    }
}
