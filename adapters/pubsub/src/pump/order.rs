//! One message under way per ordering key, in order.
//!
//! The service sends the messages of a key in order, but does not wait for the answer to one before
//! it sends the next. So the next ones wait here. When a message is given back, the service sends
//! it again, and the later ones of its key after it; what was under way to us at that moment comes
//! too early, and is held back until the service has sent it in its turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// How long the messages of a key wait for one that was given back. It may never come: another
/// consumer can get it, or the service moves it to the dead-letter topic.
pub(super) const REWIND: Duration = Duration::from_secs(10);
/// How long a message that came too early waits to be sent again.
pub(super) const EARLY: Duration = Duration::from_secs(2);

/// Where a message stands in its key, as well as the service tells: time of publishing, number.
pub(super) type Rank = (u64, u64);

/// The ordering keys with messages here.
#[derive(Debug, Default)]
pub(super) struct Order {
    keys: HashMap<Arc<str>, Key>,
}

#[derive(Debug, Default)]
struct Key {
    /// The message whose turn it is.
    current: Option<u64>,
    waiting: VecDeque<Waiting>,
    /// The message that was given back and comes before all others.
    expects: Option<Arc<str>>,
    /// Until when nobody's turn comes.
    blocked_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    entry: u64,
    rank: Rank,
    /// It came before one that was given back and comes before it.
    is_early: bool,
}

/// Whose turn is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nobody,
    Entry(u64),
    /// To be asked again then.
    At(Instant),
}

impl Key {
    /// Puts a message behind those that came before it, and before those that came too early.
    fn insert(&mut self, waiting: Waiting) {
        let after = self
            .waiting
            .iter()
            .rposition(|other| waiting.is_early || !other.is_early || other.rank <= waiting.rank);
        self.waiting.insert(after.map_or(0, |i| i + 1), waiting);
    }

    /// The next turn, where nothing has to be waited for.
    fn promote(&mut self) -> Option<u64> {
        if self.current.is_some() || self.expects.is_some() {
            return None;
        }
        let next = self.waiting.pop_front_if(|next| !next.is_early)?;
        self.current = Some(next.entry);
        self.blocked_until = None;
        self.current
    }
}

impl Order {
    /// A message of `key` came. Returns whose turn it is now, where that changed.
    pub(super) fn arrive(
        &mut self,
        key: &Arc<str>,
        entry: u64,
        id: &str,
        rank: Rank,
    ) -> Option<u64> {
        let Some(state) = self.keys.get_mut(key) else {
            let state = Key {
                current: Some(entry),
                ..Key::default()
            };
            self.keys.insert(key.clone(), state);
            return Some(entry);
        };
        if state.expects.as_deref() == Some(id) {
            state.expects = None;
            state.blocked_until = None;
            state.current = Some(entry);
            return Some(entry);
        }
        state.insert(Waiting {
            entry,
            rank,
            is_early: state.expects.is_some(),
        });
        state.promote()
    }

    /// A message that waits here was sent again, so it is in its turn now.
    pub(super) fn again(&mut self, key: &str, entry: u64) -> Option<u64> {
        let state = self.keys.get_mut(key)?;
        let at = state
            .waiting
            .iter()
            .position(|waiting| waiting.entry == entry)?;
        let mut waiting = state.waiting.remove(at)?;
        waiting.is_early = state.expects.is_some();
        state.insert(waiting);
        state.promote()
    }

    /// The message whose turn it was is done.
    pub(super) fn done(&mut self, key: &str, now: Instant) -> Next {
        let Some(state) = self.keys.get_mut(key) else {
            return Next::Nobody;
        };
        state.current = None;
        if let Some(next) = state.promote() {
            return Next::Entry(next);
        }
        if state.waiting.is_empty() {
            self.keys.remove(key);
            return Next::Nobody;
        }
        let until = now + EARLY;
        state.blocked_until = Some(until);
        Next::At(until)
    }

    /// The message `id`, whose turn it was, is given back. Returns those that have to go back with
    /// it, and until when it is waited for.
    pub(super) fn failed(
        &mut self,
        key: &str,
        id: &Arc<str>,
        now: Instant,
    ) -> (Vec<u64>, Option<Instant>) {
        let Some(state) = self.keys.get_mut(key) else {
            return (Vec::new(), None);
        };
        let until = now + REWIND;
        state.current = None;
        state.expects = Some(id.clone());
        state.blocked_until = Some(until);
        let waiting = state.waiting.drain(..).map(|waiting| waiting.entry);
        (waiting.collect(), Some(until))
    }

    /// Whose turn it is when the waiting is over.
    pub(super) fn due(&mut self, key: &str, now: Instant) -> Next {
        let Some(state) = self.keys.get_mut(key) else {
            return Next::Nobody;
        };
        match state.blocked_until {
            Some(until) if until > now => return Next::At(until),
            Some(_) if state.current.is_none() => {}
            _ => return Next::Nobody,
        }
        state.expects = None;
        state.blocked_until = None;
        if let Some(next) = state.waiting.front_mut() {
            next.is_early = false;
        }
        match state.promote() {
            Some(next) => Next::Entry(next),
            None => {
                self.keys.remove(key);
                Next::Nobody
            }
        }
    }

    /// Gives up a key whose current message was not handed out. Returns those that waited.
    pub(super) fn forget(&mut self, key: &str) -> Vec<u64> {
        let state = self.keys.remove(key);
        let waiting = state.into_iter().flat_map(|state| state.waiting);
        waiting.map(|waiting| waiting.entry).collect()
    }

    /// Gives up a message that waits, and those behind it.
    pub(super) fn forget_from(&mut self, key: &str, entry: u64) -> Vec<u64> {
        let Some(state) = self.keys.get_mut(key) else {
            return Vec::new();
        };
        let at = state
            .waiting
            .iter()
            .position(|waiting| waiting.entry == entry)
            .unwrap_or(state.waiting.len());
        let rest = state.waiting.split_off(at);
        rest.into_iter().map(|waiting| waiting.entry).collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Test {
        order: Order,
        key: Arc<str>,
    }

    impl Test {
        fn new() -> Self {
            Self {
                order: Order::default(),
                key: "k".into(),
            }
        }

        /// Message `n` of the key comes as entry `entry`.
        fn arrive(&mut self, entry: u64, n: u64) -> Option<u64> {
            let key = self.key.clone();
            self.order.arrive(&key, entry, &format!("m{n}"), (n, 0))
        }

        fn done(&mut self) -> Next {
            self.order.done("k", Instant::now())
        }

        fn failed(&mut self, n: u64) -> Vec<u64> {
            let id = format!("m{n}").into();
            self.order.failed("k", &id, Instant::now()).0
        }
    }

    #[test]
    fn one_at_a_time_in_order() {
        let mut test = Test::new();
        assert_eq!(test.arrive(1, 1), Some(1));
        assert_eq!(test.arrive(2, 2), None);
        assert_eq!(test.arrive(3, 3), None);
        assert_eq!(test.done(), Next::Entry(2));
        assert_eq!(test.done(), Next::Entry(3));
        assert_eq!(test.done(), Next::Nobody);
        assert!(test.order.is_empty());
    }

    #[test]
    fn what_waits_goes_back_with_what_is_given_back() {
        let mut test = Test::new();
        test.arrive(1, 1);
        test.arrive(2, 2);
        test.arrive(3, 3);
        assert_eq!(test.failed(1), [2, 3]);
        assert_eq!(test.arrive(4, 1), Some(4));
        assert_eq!(test.arrive(5, 2), None);
        assert_eq!(test.done(), Next::Entry(5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_too_early_waits_for_its_turn() {
        let mut test = Test::new();
        test.arrive(1, 1);
        test.failed(1);
        // 3 was on its way when 1 was given back; the service then sends 1, 2, 3.
        assert_eq!(test.arrive(2, 3), None);
        assert_eq!(test.arrive(3, 1), Some(3));
        let Next::At(until) = test.done() else {
            panic!("3 must not overtake 2");
        };
        assert_eq!(until, Instant::now() + EARLY);
        assert_eq!(test.arrive(4, 2), Some(4));
        // 3 comes again, in its turn.
        assert_eq!(test.order.again("k", 2), None);
        assert_eq!(test.done(), Next::Entry(2));
        assert_eq!(test.done(), Next::Nobody);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_too_early_and_is_not_sent_again_is_not_forgotten() {
        let mut test = Test::new();
        test.arrive(1, 1);
        test.failed(1);
        test.arrive(2, 3);
        test.arrive(3, 1);
        assert!(matches!(test.done(), Next::At(_)));
        let now = Instant::now();
        assert_eq!(test.order.due("k", now), Next::At(now + EARLY));
        assert_eq!(test.order.due("k", now + EARLY), Next::Entry(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_goes_on_when_what_was_given_back_never_comes() {
        let mut test = Test::new();
        test.arrive(1, 1);
        test.failed(1);
        assert_eq!(test.arrive(2, 2), None);
        let now = Instant::now();
        assert_eq!(test.order.due("k", now + REWIND), Next::Entry(2));
        assert_eq!(test.done(), Next::Nobody);
        test.arrive(3, 3);
        test.failed(3);
        assert_eq!(test.order.due("k", now + REWIND), Next::Nobody);
        assert!(test.order.is_empty());
    }

    #[test]
    fn a_key_is_given_up_from_one_message_on() {
        let mut test = Test::new();
        for n in 1..=4 {
            test.arrive(n, n);
        }
        assert_eq!(test.order.forget_from("k", 3), [3, 4]);
        assert_eq!(test.done(), Next::Entry(2));
        test.arrive(5, 5);
        assert_eq!(test.order.forget("k"), [5]);
        assert!(test.order.is_empty());
    }
}
