//! What earlier attempts at a message ended in, as far as this process saw them.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

/// How many messages are remembered; the one not seen for longest is forgotten first.
const MESSAGES: usize = 4_096;
/// How many attempts are remembered per message: the last ones.
const ATTEMPTS: usize = 8;

/// The ends of earlier attempts, for the reason of a failure. Bounded.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ends: HashMap<Uuid, Entry>,
    /// Keys with the turn at which they were noted; the newest turn of a key counts.
    turns: VecDeque<(Uuid, u64)>,
    turn: u64,
}

#[derive(Debug, Default)]
struct Entry {
    turn: u64,
    ends: VecDeque<String>,
}

impl History {
    /// Notes how an attempt ended, and returns how the earlier ones did: `503, timeout, 2x 503`.
    pub(crate) fn note(&self, key: Uuid, end: String) -> String {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.turn += 1;
        let turn = inner.turn;
        let entry = inner.ends.entry(key).or_default();
        entry.turn = turn;
        let before = shown(&entry.ends);
        if entry.ends.len() >= ATTEMPTS {
            entry.ends.pop_front();
        }
        entry.ends.push_back(end);
        inner.turns.push_back((key, turn));
        inner.tidy();
        before
    }

    /// Forgets a message that is done, and returns how its attempts ended.
    pub(crate) fn forget(&self, key: Uuid) -> String {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = inner.ends.remove(&key);
        entry.map(|entry| shown(&entry.ends)).unwrap_or_default()
    }
}

impl Inner {
    fn tidy(&mut self) {
        while self.ends.len() > MESSAGES || self.turns.len() > MESSAGES * ATTEMPTS {
            let Some((key, turn)) = self.turns.pop_front() else {
                return;
            };
            // An older turn of a key that was seen again since says nothing.
            if self.ends.get(&key).is_some_and(|entry| entry.turn == turn) {
                self.ends.remove(&key);
            }
        }
    }
}

/// Runs of the same end are counted.
fn shown(ends: &VecDeque<String>) -> String {
    let mut text = String::new();
    let mut ends = ends.iter().peekable();
    while let Some(end) = ends.next() {
        let mut times = 1;
        while ends.next_if(|next| *next == end).is_some() {
            times += 1;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        // Writing to a string cannot fail.
        let _ = match times {
            1 => write!(text, "{end}"),
            _ => write!(text, "{times}x {end}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_ends_are_told_in_order_and_bounded() {
        let history = History::default();
        let key = Uuid::from_u128(1);
        assert_eq!(history.note(key, "503".into()), "");
        assert_eq!(history.note(key, "503".into()), "503");
        assert_eq!(history.note(key, "timeout".into()), "2x 503");
        assert_eq!(history.note(key, "503".into()), "2x 503, timeout");
        for _ in 0..20 {
            history.note(key, "502".into());
        }
        assert_eq!(history.forget(key), "8x 502");
        assert_eq!(history.note(key, "503".into()), "");
    }

    #[test]
    fn memory_is_bounded_and_the_longest_unseen_is_forgotten_first() {
        let history = History::default();
        let first = Uuid::from_u128(u128::MAX);
        for i in 0..100_000_u128 {
            if i % 1_000 == 0 {
                history.note(first, "503".into());
            }
            history.note(Uuid::from_u128(i), "503".into());
        }
        let inner = history.0.lock().unwrap();
        assert!(inner.ends.len() <= MESSAGES);
        assert!(inner.turns.len() <= MESSAGES * ATTEMPTS);
        assert!(inner.ends.contains_key(&first));
        assert!(inner.ends.contains_key(&Uuid::from_u128(99_999)));
        assert!(!inner.ends.contains_key(&Uuid::from_u128(0)));
    }
}
