//! Whether what is in a journal may be.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use towpath_conformance::history::{History, Ledger};
use towpath_core::{Envelope, Message};
use uuid::Uuid;

use super::{
    child::content,
    journal::{Event, What},
};

/// Servers count leases in seconds, and a process learns of its lease a moment after it began.
const COARSE: u64 = 1_000_000;

/// The verdict on a journal.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) ledger: Ledger,
    /// Times that work was done again, where the process before it was killed or lost its lease
    /// before its ack was confirmed: what "at least once" permits.
    pub(super) repeated: usize,
    /// Work that was done again for no such reason.
    pub(super) unexplained: BTreeSet<Uuid>,
    /// Leases that ran out in a living process.
    pub(super) ran_out: usize,
    /// Work that a process did after its lease had run out; its outcome does not count.
    pub(super) discarded: usize,
    /// Acks that the server accepted after the lease had run out; no worker may call them a success.
    pub(super) late: BTreeMap<String, usize>,
    /// Leases of processes that are gone.
    pub(super) orphaned: usize,
    /// Messages whose holder was killed, or lost the lease: they may be in two places.
    pub(super) disturbed: BTreeSet<Uuid>,
}

impl Verdict {
    /// Whether nothing happened that the contract of a queue which delivers at least once forbids.
    pub(super) fn is_good(&self) -> bool {
        let ledger = &self.ledger;
        ledger.is_safe()
            && ledger.overlapping.is_empty()
            && ledger.false_acks.is_empty()
            && ledger.left == 0
            && ledger.in_two_places.is_subset(&self.disturbed)
            && self.unexplained.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} repeated={} unexplained={} orphaned={} ran_out={} discarded={}",
            self.ledger,
            self.repeated,
            self.unexplained.len(),
            self.orphaned,
            self.ran_out,
            self.discarded
        )
    }
}

/// One message, as the journal tells it.
#[derive(Debug, Default)]
struct State {
    /// Who holds it, and until when.
    holder: Option<(String, u64)>,
    /// Whether the holder did its work.
    is_worked: bool,
    /// Whether any holder did its work.
    was_worked: bool,
    /// Whether one did whose ack was not seen, and who lost it.
    may_repeat: bool,
    /// Who lost its lease and lived on.
    lapsed: Vec<String>,
}

impl State {
    fn is_held_by(&self, who: &str) -> bool {
        self.holder.as_ref().is_some_and(|(name, _)| name == who)
    }

    /// The holder lost it.
    fn lose(&mut self) {
        self.holder = None;
        self.may_repeat |= self.is_worked;
        self.is_worked = false;
    }
}

/// Judges the events of the messages that were `sent`. `dead` and `left` are those found in the
/// dead-letter queue and in the queue.
pub(super) fn judge(
    sent: &[Message],
    events: &[Event],
    dead: &[Message],
    left: &[Message],
) -> Verdict {
    let history = History::new();
    let mut messages = HashMap::new();
    for message in sent {
        history.accepted(message);
        messages.insert(message.idempotency_key(), (message, content(message)));
    }
    // What is seen of a message, changed where the content is not that which was sent.
    let envelope = |key: Uuid, seen: Option<u64>| {
        let message = match messages.get(&key) {
            Some((message, sent)) if seen.is_none_or(|seen| seen == *sent) => (*message).clone(),
            Some((message, _)) => (*message).clone().with_body("changed"),
            None => Message::new("unexpected").with_idempotency_key(key),
        };
        Envelope::new(1.into(), message)
    };
    let mut last_received = HashMap::new();
    for (place, event) in events.iter().enumerate() {
        if matches!(event.what, What::Received { .. }) {
            last_received.insert(event.key, place);
        }
    }
    let mut verdict = Verdict::default();
    let mut states: HashMap<Uuid, State> = HashMap::new();
    let mut held: HashMap<String, BTreeSet<Uuid>> = HashMap::new();
    let mut stopped: HashMap<&str, u64> = HashMap::new();
    for (place, event) in events.iter().enumerate() {
        let Event { at, who, key, what } = event;
        let key = *key;
        if *what == What::Gone {
            for key in held.remove(who).unwrap_or_default() {
                let state = states.get_mut(&key).unwrap();
                verdict.orphaned += 1;
                verdict.disturbed.insert(key);
                if state.is_worked && last_received[&key] < place {
                    // It never came again, so its ack had reached the queue.
                    history.acked(&envelope(key, None), who);
                } else {
                    history.released(&envelope(key, None), who);
                }
                state.lose();
            }
            continue;
        }
        if *what == What::Stopped {
            stopped.insert(who, *at);
        }
        if key.is_nil() {
            continue;
        }
        let state = states.entry(key).or_default();
        let is_holder = state.is_held_by(who);
        match *what {
            // The answer waited for as long as the process was stopped, and the lease ran.
            What::Received { asked, .. } if stopped.get(&**who).is_some_and(|at| asked < *at) => {
                state.lapsed.push(who.clone());
            }
            What::Received { content, until, .. } => {
                if let Some((before, end)) = state.holder.clone()
                    && at + COARSE >= end
                {
                    history.released(&envelope(key, None), &before);
                    held.entry(before.clone()).or_default().remove(&key);
                    verdict.ran_out += 1;
                    verdict.disturbed.insert(key);
                    state.lose();
                    state.lapsed.push(before);
                }
                history.received(&envelope(key, Some(content)), who);
                held.entry(who.clone()).or_default().insert(key);
                state.holder = Some((who.clone(), until));
                state.is_worked = false;
            }
            What::Extended { until } if is_holder => {
                state.holder = Some((who.clone(), until));
            }
            What::Effect if !is_holder => {
                if state.lapsed.contains(who) {
                    verdict.discarded += 1;
                } else {
                    verdict.unexplained.insert(key);
                }
            }
            What::Effect => {
                if state.was_worked && state.may_repeat {
                    verdict.repeated += 1;
                } else if state.was_worked {
                    verdict.unexplained.insert(key);
                }
                state.was_worked = true;
                state.is_worked = true;
            }
            What::Acked if !is_holder && state.lapsed.contains(who) => {
                *verdict.late.entry(who.clone()).or_default() += 1;
            }
            What::Acked => {
                // Without work it is the end of a dead letter, or an ack by one who is not the
                // holder any more, which the history knows to judge.
                if state.is_worked || !is_holder {
                    history.acked(&envelope(key, None), who);
                } else {
                    history.released(&envelope(key, None), who);
                }
                if is_holder {
                    state.holder = None;
                    state.may_repeat = false;
                    held.entry(who.clone()).or_default().remove(&key);
                }
            }
            What::Nacked => {
                history.released(&envelope(key, None), who);
                if is_holder {
                    state.holder = None;
                    held.entry(who.clone()).or_default().remove(&key);
                }
            }
            // Refused because the lease is gone; it may come again.
            What::Refused if is_holder => {
                verdict.disturbed.insert(key);
                state.may_repeat |= state.is_worked;
            }
            What::Started | What::Extended { .. } | What::Refused => {}
            What::Draining | What::Gone | What::Stopped => {}
        }
    }
    dead.iter()
        .for_each(|message| history.dead_lettered(message));
    left.iter().for_each(|message| history.left(message));
    verdict.ledger = history.check();
    verdict
}
