//! A queue as its handles share it: the state machine behind a lock, a clock, and who waits.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};
use towpath_core::{Error, ErrorKind, FailureClass, FailureRecord, Message, Result};

use crate::{
    faults::Dice,
    queue::{Queue, nanos},
    settings::{Settings, error},
    store::{Entry, Nanos},
    waiters::Waiters,
};

/// Numbers the queues of the process.
static QUEUES: AtomicU32 = AtomicU32::new(1);

#[derive(Debug)]
pub(crate) struct Shared {
    name: String,
    epoch: Instant,
    inner: Mutex<Inner>,
    arrival: Notify,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) queue: Queue,
    pub(crate) settings: Settings,
    pub(crate) waiters: Waiters,
    pub(crate) dice: Option<Box<Dice>>,
    is_deleted: bool,
}

impl Inner {
    /// Puts changed settings into force.
    pub(crate) fn apply(&mut self, settings: Settings) {
        if settings.faults != self.settings.faults {
            self.dice = dice(&settings);
        }
        self.queue.set_rules(settings.rules());
        self.settings = settings;
    }

    /// Whether a waiting receiver has something to do.
    fn is_wanted(&mut self) -> bool {
        if self.waiters.is_empty() {
            return false;
        }
        self.is_deleted || self.queue.has_ready() || {
            let next = self.queue.next_event();
            self.waiters.needs_watch(next)
        }
    }
}

fn dice(settings: &Settings) -> Option<Box<Dice>> {
    let (faults, seed) = settings.faults.as_ref()?;
    (!faults.is_none()).then(|| Box::new(Dice::new(faults.clone(), *seed)))
}

/// A message that is on its way to the dead-letter queue.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) queue: String,
    pub(crate) message: Message,
}

impl Shared {
    pub(crate) fn new(name: String, settings: Settings) -> Self {
        let number = QUEUES.fetch_add(1, Ordering::Relaxed);
        Self {
            name,
            epoch: Instant::now(),
            inner: Mutex::new(Inner {
                queue: Queue::new(settings.rules(), number, SystemTime::now()),
                dice: dice(&settings),
                settings,
                waiters: Waiters::default(),
                is_deleted: false,
            }),
            arrival: Notify::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// Runs `change` on the queue as it is now, and wakes a receiver when there is something for
    /// one. Returns the messages that are to go to the dead-letter queue too.
    ///
    /// # Errors
    ///
    /// `NotFound` when the queue was deleted.
    pub(crate) fn with<T>(
        &self,
        change: impl FnOnce(&mut Inner, Nanos) -> T,
    ) -> Result<(T, Vec<DeadLetter>)> {
        let mut inner = self.lock();
        if inner.is_deleted {
            return Err(self.not_found());
        }
        // Read under the lock, so that time never goes backwards from one call to the next.
        let now = self.now();
        inner.queue.advance(now);
        let result = change(&mut inner, now);
        let dead = if inner.queue.has_dead() {
            let dead = inner.queue.take_dead();
            self.dead_letters(&inner, dead, now)
        } else {
            Vec::new()
        };
        let is_wanted = inner.is_wanted();
        drop(inner);
        if is_wanted {
            self.arrival.notify_one();
        }
        Ok((result, dead))
    }

    fn dead_letters(&self, inner: &Inner, dead: Vec<Entry>, now: Nanos) -> Vec<DeadLetter> {
        let Some(policy) = &inner.settings.policy else {
            return Vec::new();
        };
        dead.into_iter()
            .map(|entry| DeadLetter {
                queue: policy.queue.clone(),
                message: self.dead_letter(inner, entry, policy.max_deliveries, now),
            })
            .collect()
    }

    fn dead_letter(&self, inner: &Inner, entry: Entry, most: u32, now: Nanos) -> Message {
        let reason = format!(
            "moved by the queue: it was delivered {} times without being settled, and \
             max_deliveries is {most}",
            entry.attempt
        );
        let mut record = FailureRecord::new(FailureClass::AttemptsExhausted, reason, &self.name);
        let message = entry.message;
        let before = message.failure();
        let sent_ms = unix_ms(inner.queue.system_time(entry.sent_at));
        record.attempts = entry.attempt;
        record.first_sent_ms = before
            .and_then(|failure| failure.first_sent_ms)
            .or(Some(sent_ms));
        record.failed_ms = unix_ms(inner.queue.system_time(now));
        record.message_id = entry.id.to_string();
        record.ordering_key = message.ordering_key().map(str::to_owned);
        record.redrives = before.map_or(0, |failure| failure.redrives);
        message
            .with_delay(Duration::ZERO)
            .with_failure(Some(record))
    }

    /// Resolves when a receiver is woken.
    pub(crate) fn arrival(&self) -> tokio::sync::futures::Notified<'_> {
        self.arrival.notified()
    }

    /// The moment of a time of the queue.
    pub(crate) fn instant(&self, at: Nanos) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_nanos(at))
    }

    fn now(&self) -> Nanos {
        nanos(self.epoch.elapsed())
    }

    pub(crate) fn not_found(&self) -> Error {
        error(
            ErrorKind::NotFound,
            format!(
                "there is no queue {:?}; it was deleted, or never created",
                self.name
            ),
        )
    }

    /// Deletes the queue for all handles.
    pub(crate) fn delete(&self) {
        let mut inner = self.lock();
        inner.is_deleted = true;
        let contents = inner.queue.purge();
        drop(inner);
        drop(contents);
        self.arrival.notify_waiters();
    }
}

/// A waiting receiver. Dropping it hands its watch over to another.
pub(crate) struct Waiting<'a> {
    shared: &'a Shared,
    number: u64,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        let number = shared.lock().waiters.join();
        Self { shared, number }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.waiters.leave(self.number);
        let is_wanted = inner.is_wanted();
        drop(inner);
        if is_wanted {
            self.shared.arrival.notify_one();
        }
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
