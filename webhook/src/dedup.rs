//! Events that were accepted before.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

/// The namespace of the ids of events.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_2c58_9c43_4b0e_8a57_3d21_e4b9_70a6);

/// The id of the message for an event: the same whenever the event comes again, also after a
/// restart. Use it as the message's idempotency key.
///
/// ```
/// use towpath_webhook::dedup::event_key;
///
/// assert_eq!(event_key("mailgun", "evt_1"), event_key("mailgun", "evt_1"));
/// assert_ne!(event_key("mailgun", "evt_1"), event_key("stripe", "evt_1"));
/// ```
pub fn event_key(source: &str, event_id: &str) -> Uuid {
    let name = [source.as_bytes(), b"\0", event_id.as_bytes()].concat();
    Uuid::new_v5(&NAMESPACE, &name)
}

/// Remembers the events of one source that were accepted, so that each has one effect, and copies
/// get the answer of the first. Clones share everything.
///
/// An event is remembered for the horizon: take the time for which the provider sends again. When
/// more events come than there is room for, the oldest are forgotten early. It lives in memory; a
/// restart forgets it, and then [`event_key`] still gives a copy the same id.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::{num::NonZeroUsize, time::Duration};
/// use towpath_webhook::dedup::{Claim, Dedup, event_key};
///
/// let dedup = Dedup::new(NonZeroUsize::new(100_000).unwrap(), Duration::from_secs(8 * 3_600));
/// let id = event_key("mailgun", "evt_1");
/// match dedup.claim("evt_1").await {
///     // Enqueue it here. On a failure, or when this is dropped, the event is not remembered.
///     Claim::First(claimed) => claimed.complete(id),
///     Claim::Duplicate(_) | Claim::Abandoned => unreachable!("it is new"),
/// }
/// assert!(matches!(dedup.claim("evt_1").await, Claim::Duplicate(first) if first == id));
/// # }
/// ```
#[derive(Clone)]
pub struct Dedup(Arc<Shared>);

/// What is to be done with an event.
#[must_use]
#[derive(Debug)]
pub enum Claim {
    /// It is new, or was never accepted: accept it, then [`complete`](Claimed::complete) the claim.
    First(Claimed),
    /// It was accepted before, with this id.
    Duplicate(Uuid),
    /// A copy that came earlier was just [abandoned](Claimed::abandon): answer as that one was
    /// answered, so that the provider sends it again.
    Abandoned,
}

/// The right to accept one event. Copies of the event wait for what becomes of it. Dropping it lets
/// the next copy try.
#[derive(Debug)]
#[must_use = "dropping a claim lets the next copy of the event try"]
pub struct Claimed {
    shared: Arc<Shared>,
    event: Event,
}

/// A hash of the event's id, so that long ids take no room.
type Event = [u8; 16];

struct Shared {
    capacity: NonZeroUsize,
    horizon: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Events that are being accepted, at most one for each request under way. Whether they were
    /// abandoned is sent to the copies that wait, where there are any.
    claimed: HashMap<Event, Option<watch::Sender<bool>>>,
    accepted: HashMap<Event, Uuid>,
    by_age: VecDeque<(Instant, Event)>,
}

impl Dedup {
    /// Remembers at most `capacity` events (about 100 bytes each), each for `horizon`.
    pub fn new(capacity: NonZeroUsize, horizon: Duration) -> Self {
        Self(Arc::new(Shared {
            capacity,
            horizon,
            state: Mutex::default(),
        }))
    }

    /// Claims the event with this id. Waits while a copy of it is being accepted.
    ///
    /// # Cancel safety
    ///
    /// Nothing is claimed when this is cancelled.
    pub async fn claim(&self, event_id: &str) -> Claim {
        let mut event = Event::default();
        event.copy_from_slice(&Sha256::digest(event_id)[..16]);
        loop {
            let mut fate = {
                let mut state = self.0.lock();
                state.forget_older_than(self.0.horizon);
                if let Some(id) = state.accepted.get(&event) {
                    return Claim::Duplicate(*id);
                }
                match state.claimed.entry(event) {
                    Entry::Occupied(mut claimed) => claimed
                        .get_mut()
                        .get_or_insert_with(|| watch::Sender::new(false))
                        .subscribe(),
                    Entry::Vacant(place) => {
                        place.insert(None);
                        return Claim::First(Claimed {
                            shared: Arc::clone(&self.0),
                            event,
                        });
                    }
                }
            };
            // An error means that the sender is gone: accepted or dropped.
            if fate.wait_for(|abandoned| *abandoned).await.is_ok() {
                return Claim::Abandoned;
            }
        }
    }

    /// How many accepted events are remembered.
    pub fn len(&self) -> usize {
        let mut state = self.0.lock();
        state.forget_older_than(self.0.horizon);
        state.accepted.len()
    }

    /// Whether no accepted event is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Claimed {
    /// The event was accepted, with this id: copies that wait or come later get it too.
    pub fn complete(self, id: Uuid) {
        let mut state = self.shared.lock();
        if state.accepted.insert(self.event, id).is_none() {
            state.by_age.push_back((Instant::now(), self.event));
        }
        while state.accepted.len() > self.shared.capacity.get() {
            state.forget_oldest();
        }
        // Dropping self lets the copies look again.
    }

    /// The event could not be accepted: copies that wait are told so, later ones may try.
    pub fn abandon(self) {
        if let Some(Some(claimed)) = self.shared.lock().claimed.get(&self.event) {
            claimed.send_replace(true);
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.shared.lock().claimed.remove(&self.event);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_older_than(&mut self, horizon: Duration) {
        while self
            .by_age
            .front()
            .is_some_and(|(at, _)| at.elapsed() > horizon)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, event)) = self.by_age.pop_front() {
            self.accepted.remove(&event);
        }
    }
}

impl fmt::Debug for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedup")
            .field("capacity", &self.capacity)
            .field("horizon", &self.horizon)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const HORIZON: Duration = Duration::from_secs(8 * 3_600);

    fn dedup(capacity: usize) -> Dedup {
        Dedup::new(NonZeroUsize::new(capacity).unwrap(), HORIZON)
    }

    async fn first(dedup: &Dedup, event: &str) -> Claimed {
        match dedup.claim(event).await {
            Claim::First(claimed) => claimed,
            other => panic!("{event}: {other:?}"),
        }
    }

    async fn accept(dedup: &Dedup, event: &str) -> Uuid {
        let id = event_key("test", event);
        first(dedup, event).await.complete(id);
        id
    }

    /// 64 copies, of which the one that is first does `effect`.
    async fn copies<F: Future<Output = bool> + Send>(
        dedup: &Dedup,
        effect: impl Fn(usize) -> F + Clone + Send + 'static,
    ) -> Vec<Option<Uuid>> {
        let tasks: Vec<_> = (0..64)
            .map(|number| {
                let (dedup, effect) = (dedup.clone(), effect.clone());
                tokio::spawn(async move {
                    match dedup.claim("evt_1").await {
                        Claim::First(claimed) => {
                            let id = Uuid::from_u128(number as u128);
                            if effect(number).await {
                                claimed.complete(id);
                                Some(id)
                            } else {
                                claimed.abandon();
                                None
                            }
                        }
                        Claim::Duplicate(id) => Some(id),
                        Claim::Abandoned => None,
                    }
                })
            })
            .collect();
        let mut ids = Vec::new();
        for task in tasks {
            ids.push(task.await.unwrap());
        }
        ids
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_copies_have_one_effect_and_one_id() {
        for _ in 0..20 {
            let effects = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&effects);
            let ids = copies(&dedup(10), move |_| {
                let count = Arc::clone(&count);
                async move {
                    tokio::task::yield_now().await;
                    count.fetch_add(1, Ordering::Relaxed);
                    true
                }
            })
            .await;
            assert_eq!(effects.load(Ordering::Relaxed), 1);
            assert_eq!(ids.len(), 64);
            assert!(
                ids[0].is_some() && ids.iter().all(|id| *id == ids[0]),
                "{ids:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_first_copy_fails_those_that_wait_fail_at_once_and_later_ones_try() {
        let dedup = dedup(10);
        let started = Instant::now();
        let ids = copies(&dedup, |_| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            false
        })
        .await;
        assert!(ids.iter().all(Option::is_none));
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        let id = accept(&dedup, "evt_1").await;
        assert!(matches!(dedup.claim("evt_1").await, Claim::Duplicate(same) if same == id));
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_first_copy_is_dropped_the_next_one_takes_over() {
        let dedup = dedup(10);
        let held = first(&dedup, "evt_1").await;
        let waiting = dedup.clone();
        let next = tokio::spawn(async move { accept(&waiting, "evt_1").await });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(held);
        let id = next.await.unwrap();
        assert!(matches!(dedup.claim("evt_1").await, Claim::Duplicate(same) if same == id));
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_gives_up_waiting_claims_nothing() {
        let dedup = dedup(10);
        let held = first(&dedup, "evt_1").await;
        let wait = tokio::time::timeout(Duration::from_secs(1), dedup.claim("evt_1"));
        assert!(wait.await.is_err());
        held.abandon();
        accept(&dedup, "evt_1").await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_remembered_for_the_horizon() {
        let dedup = dedup(10);
        let id = accept(&dedup, "evt_1").await;
        tokio::time::advance(HORIZON).await;
        assert!(matches!(dedup.claim("evt_1").await, Claim::Duplicate(same) if same == id));
        // A copy does not make it younger.
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(dedup.is_empty());
        accept(&dedup, "evt_1").await;
        assert_eq!(dedup.len(), 1);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_the_oldest_go_first() {
        let dedup = dedup(3);
        for event in 0..1_000 {
            accept(&dedup, &event.to_string()).await;
            assert!(dedup.len() <= 3);
        }
        assert!(matches!(dedup.claim("997").await, Claim::Duplicate(_)));
        first(&dedup, "996").await.abandon();
        let state = dedup.0.lock();
        assert_eq!(
            (
                state.accepted.len(),
                state.by_age.len(),
                state.claimed.len()
            ),
            (3, 3, 0)
        );
    }

    #[tokio::test]
    async fn other_events_do_not_wait() {
        let dedup = dedup(10);
        let held = first(&dedup, "evt_1").await;
        accept(&dedup, "evt_2").await;
        held.abandon();
    }

    #[test]
    fn the_key_of_an_event_never_changes_and_has_no_ambiguous_parts() {
        let key = event_key("mailgun", "evt_1").to_string();
        // Python: uuid.uuid5(uuid.UUID(int=NAMESPACE), "mailgun\0evt_1")
        assert_eq!(key, "4258292d-ea56-528a-8bd2-88627aa76c0d");
        assert_ne!(event_key("a", "bc"), event_key("ab", "c"));
    }
}
