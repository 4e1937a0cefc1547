//! One message in flight per ordering key.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::in_hand::InHand;

/// The messages that wait for their predecessor, by ordering key.
#[derive(Default)]
pub(crate) struct Keys(Mutex<HashMap<Arc<str>, VecDeque<InHand>>>);

impl Keys {
    /// Takes the turn of `key` for `message`, or lets it wait behind the one that has it.
    pub(crate) fn enter(self: &Arc<Self>, key: &str, message: InHand) -> Option<(InHand, Turn)> {
        let mut keys = self.lock();
        if let Some(waiting) = keys.get_mut(key) {
            waiting.push_back(message);
            return None;
        }
        let key: Arc<str> = key.into();
        keys.insert(key.clone(), VecDeque::new());
        drop(keys);
        let turn = Turn {
            keys: self.clone(),
            key,
            is_over: false,
        };
        Some((message, turn))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, VecDeque<InHand>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to process the messages of one ordering key. Dropping it releases those that wait.
pub(crate) struct Turn {
    keys: Arc<Keys>,
    key: Arc<str>,
    is_over: bool,
}

impl Turn {
    /// The next message of the key; without one the turn ends.
    pub(crate) fn next(mut self) -> Option<(InHand, Self)> {
        let mut keys = self.keys.lock();
        match keys.get_mut(&self.key).and_then(VecDeque::pop_front) {
            Some(message) => {
                drop(keys);
                Some((message, self))
            }
            None => {
                // In the same lock as the look, so that no message comes to wait in between.
                keys.remove(&self.key);
                drop(keys);
                self.is_over = true;
                None
            }
        }
    }

    /// All that wait, the first one first. The turn goes on.
    pub(crate) fn followers(&self) -> VecDeque<InHand> {
        let mut keys = self.keys.lock();
        keys.get_mut(&self.key)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let waiting = self.keys.lock().remove(&self.key);
        // Outside the lock: dropping a delivery calls into the consumer.
        drop(waiting);
    }
}
