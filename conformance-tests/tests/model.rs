//! Random histories of one queue against a small model of what a queue is.
//!
//! Each step is chosen by a number and names messages by their place among those that are there, so
//! that any list of steps is a history, also after shrinking.
#![allow(missing_docs)]

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use proptest::{prelude::*, test_runner::Config};
use tokio::time::{Instant, advance};
use towpath_core::{
    Message, QueueConfig,
    driver::{Admin, Backend, Consumer, Producer, Receipt},
};
use towpath_memory::MemoryBackend;

const LEASE: u64 = 30;
const KEYS: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Step {
    /// Sends a message, with a key or without, visible after some seconds.
    Send {
        key: Option<usize>,
        delay: u64,
    },
    /// Receives up to so many.
    Receive(usize),
    /// Settles or extends the receipt at this place, whether its lease holds or not.
    Ack(usize),
    Nack {
        at: usize,
        delay: u64,
    },
    Extend {
        at: usize,
        lease: u64,
    },
    /// The consumer forgets all that it holds.
    Crash,
    /// Time passes.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (proptest::option::of(0..KEYS.len()), prop_oneof![4 => Just(0), 1 => 1..40u64])
            .prop_map(|(key, delay)| Step::Send { key, delay }),
        5 => (1..6usize).prop_map(Step::Receive),
        3 => (0..8usize).prop_map(Step::Ack),
        2 => (0..8usize, prop_oneof![Just(0), 1..40u64])
            .prop_map(|(at, delay)| Step::Nack { at, delay }),
        2 => (0..8usize, 1..60u64).prop_map(|(at, lease)| Step::Extend { at, lease }),
        1 => Just(Step::Crash),
        3 => (1..35u64).prop_map(Step::Wait),
    ]
}

/// A message as the model knows it.
#[derive(Clone, Debug)]
struct Known {
    key: Option<usize>,
    attempts: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Received from this second on.
    Ready(u64),
    /// Leased until this second, as the so-manieth lease.
    Leased(u64, usize),
}

/// What a queue is: messages by the order of sending.
#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u64, Known>,
    now: u64,
}

impl Model {
    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        for known in self.messages.values_mut() {
            if let State::Leased(until, _) = known.state
                && until <= self.now
            {
                known.state = State::Ready(until);
            }
        }
    }

    /// Whether a message may be delivered now: visible, and the first of its key that is left.
    fn is_due(&self, id: u64) -> bool {
        let Some(known) = self.messages.get(&id) else {
            return false;
        };
        let is_visible = matches!(known.state, State::Ready(from) if from <= self.now);
        let is_first = known.key.is_none()
            || !self
                .messages
                .range(..id)
                .any(|(_, before)| before.key == known.key);
        is_visible && is_first
    }

    fn due(&self) -> usize {
        self.messages.keys().filter(|id| self.is_due(**id)).count()
    }
}

/// A receipt, the message, and which lease of ours it was.
type Held = (Receipt, u64, usize);

struct World {
    producer: std::sync::Arc<dyn Producer>,
    consumer: std::sync::Arc<dyn Consumer>,
    admin: std::sync::Arc<dyn Admin>,
    model: Model,
    held: Vec<Held>,
    next: u64,
    leases: usize,
}

impl World {
    async fn new() -> Self {
        let backend = MemoryBackend::new();
        let config = QueueConfig::parse("memory://model?lease=30s").unwrap();
        Self {
            producer: backend.producer(&config).await.unwrap(),
            consumer: backend.consumer(&config).await.unwrap(),
            admin: backend.admin(&config).await.unwrap(),
            model: Model::default(),
            held: Vec::new(),
            next: 0,
            leases: 0,
        }
    }

    /// The held receipt at a place, and whether its lease holds by the model.
    fn pick(&self, at: usize) -> Option<(Held, bool)> {
        let held = self.held.get(at % self.held.len().max(1))?.clone();
        let known = self.model.messages.get(&held.1);
        let holds = known
            .is_some_and(|known| matches!(known.state, State::Leased(_, lease) if lease == held.2));
        Some((held, holds))
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Send { key, delay } => {
                let mut message =
                    Message::new(self.next.to_string()).with_delay(Duration::from_secs(delay));
                if let Some(key) = key {
                    message = message.with_ordering_key(KEYS[key]);
                }
                self.producer.send(&[message]).await.pop().unwrap().unwrap();
                let state = State::Ready(self.model.now + delay);
                let known = Known {
                    key,
                    attempts: 0,
                    state,
                };
                self.model.messages.insert(self.next, known);
                self.next += 1;
            }
            Step::Receive(max) => self.receive(max).await,
            Step::Ack(at) => {
                let Some(((receipt, id, _), holds)) = self.pick(at) else {
                    return;
                };
                let acked = self.consumer.ack(&[receipt]).await.pop().unwrap();
                assert_eq!(acked.is_ok(), holds, "the ack of {id}: {acked:?}");
                if holds {
                    self.model.messages.remove(&id);
                }
            }
            Step::Nack { at, delay } => {
                let Some(((receipt, id, _), holds)) = self.pick(at) else {
                    return;
                };
                let delay_of = Duration::from_secs(delay);
                let nacked = self.consumer.nack(&[receipt], delay_of).await.pop();
                let nacked = nacked.unwrap();
                assert_eq!(nacked.is_ok(), holds, "the nack of {id}: {nacked:?}");
                if holds && let Some(known) = self.model.messages.get_mut(&id) {
                    known.state = State::Ready(self.model.now + delay);
                }
            }
            Step::Extend { at, lease } => {
                let Some(((receipt, id, number), holds)) = self.pick(at) else {
                    return;
                };
                let lease_of = Duration::from_secs(lease);
                let extended = self.consumer.extend(&[receipt], lease_of).await.pop();
                let extended = extended.unwrap();
                assert_eq!(
                    extended.is_ok(),
                    holds,
                    "the extension of {id}: {extended:?}"
                );
                if holds && let Some(known) = self.model.messages.get_mut(&id) {
                    known.state = State::Leased(self.model.now + lease, number);
                }
            }
            Step::Crash => self.held.clear(),
            Step::Wait(seconds) => {
                advance(Duration::from_secs(seconds)).await;
                self.model.pass(seconds);
            }
        }
    }

    async fn receive(&mut self, max: usize) {
        let most = NonZeroUsize::new(max).unwrap();
        let due = self.model.due();
        let received = self.consumer.receive(most, Duration::ZERO).await.unwrap();
        assert_eq!(received.len(), max.min(due), "how many are received");
        for one in received {
            let body = one.envelope.message.body();
            let id: u64 = std::str::from_utf8(body).unwrap().parse().unwrap();
            assert!(self.model.is_due(id), "{id} is delivered: {:?}", self.model);
            let until = self.model.now + LEASE;
            self.leases += 1;
            let known = self.model.messages.get_mut(&id).unwrap();
            known.attempts += 1;
            assert_eq!(
                one.envelope.attempt,
                Some(known.attempts),
                "attempts of {id}"
            );
            let key = one.envelope.message.ordering_key();
            assert_eq!(key, known.key.map(|key| KEYS[key]), "the key of {id}");
            known.state = State::Leased(until, self.leases);
            self.held.push((one.receipt, id, self.leases));
        }
    }

    async fn compare(&self) {
        let depth = self.admin.depth().await.unwrap();
        let states = self.model.messages.values().map(|known| known.state);
        let leased = states
            .filter(|state| matches!(state, State::Leased(..)))
            .count();
        assert_eq!(
            depth.leased, leased as u64,
            "what is leased: {:?}",
            self.model
        );
        assert_eq!(
            depth.total(),
            self.model.messages.len() as u64,
            "what is left"
        );
    }
}

proptest! {
    #![proptest_config(Config::with_cases(10_000))]

    #[test]
    fn the_queue_does_as_the_model(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let begun = Instant::now();
            for step in &steps {
                world.take(step).await;
                world.compare().await;
            }
            assert_eq!(begun.elapsed(), Duration::from_secs(world.model.now));
            // In the end all that is left is delivered, in the order of its key, and acked.
            let mut left = 2_000;
            while !world.model.messages.is_empty() {
                world.take(&Step::Wait(5)).await;
                world.held.clear();
                world.receive(100).await;
                for at in 0..world.held.len() {
                    world.take(&Step::Ack(at)).await;
                }
                left -= 1;
                assert!(left > 0, "messages are stuck: {:?}", world.model);
            }
            world.compare().await;
        });
    }
}
