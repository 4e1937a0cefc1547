//! A driver that does as the test says and notes what it was asked.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};
use towpath_core::{
    AckStatus, Attempts, Capabilities, Consumer, ConsumerOptions, Envelope, Error, ErrorKind,
    Lease, Limits, Message, MessageId, Producer, ProducerOptions, Result,
    driver::{self, Receipt, Received},
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// What the driver was asked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Send(Vec<String>),
    Receive(usize),
    Ack(Vec<u64>),
    Nack(Vec<u64>, Duration),
    Extend(Vec<u64>, Duration),
    Close,
}

#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) capabilities: Capabilities,
    calls: Mutex<Vec<(Instant, Call)>>,
    ready: Mutex<VecDeque<Received>>,
    arrival: Notify,
    /// Errors of the next entries or calls: of sends, receives, acks, extensions.
    pub(crate) send_errors: Mutex<VecDeque<Option<Error>>>,
    pub(crate) receive_errors: Mutex<VecDeque<Error>>,
    pub(crate) ack_errors: Mutex<VecDeque<Option<Error>>>,
    pub(crate) extend_errors: Mutex<VecDeque<Option<Error>>>,
    /// How long each kind of call takes; a receive, after its messages were leased.
    pub(crate) extend_takes: Mutex<Duration>,
    pub(crate) receive_takes: Mutex<Duration>,
    pub(crate) ack_takes: Mutex<Duration>,
    /// Whether a nacked message is ready again.
    pub(crate) gives_again: Mutex<bool>,
    given: Mutex<Vec<Received>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

pub(crate) fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "as the test says")
}

impl Script {
    /// A queue whose requests cost, of batches of 10, with leases of 30 s.
    pub(crate) fn new(change: impl FnOnce(&mut Capabilities)) -> Arc<Self> {
        let mut limits = Limits::default();
        limits.send_batch = 10;
        limits.send_batch_bytes = 1_000;
        limits.receive_batch = 10;
        limits.settle_batch = 10;
        limits.wait = 20 * SECOND;
        limits.nack_delay = 600 * SECOND;
        let lease = Lease::Extended {
            duration: LEASE,
            range: SECOND..=600 * SECOND,
            max_total: 3_600 * SECOND,
        };
        let mut capabilities = Capabilities::new(limits, lease);
        capabilities.ordering = true;
        capabilities.attempts = Attempts::Exact;
        capabilities.ack = AckStatus::Confirmed;
        change(&mut capabilities);
        Arc::new(Self {
            capabilities,
            calls: Mutex::default(),
            ready: Mutex::default(),
            arrival: Notify::new(),
            send_errors: Mutex::default(),
            receive_errors: Mutex::default(),
            ack_errors: Mutex::default(),
            extend_errors: Mutex::default(),
            extend_takes: Mutex::default(),
            ack_takes: Mutex::default(),
            receive_takes: Mutex::default(),
            gives_again: Mutex::default(),
            given: Mutex::default(),
        })
    }

    pub(crate) fn producer(self: &Arc<Self>) -> Producer {
        Producer::new(self.clone(), ProducerOptions::default())
    }

    pub(crate) fn consumer(self: &Arc<Self>, prefetch: usize) -> Consumer {
        let mut options = ConsumerOptions::new("scripted");
        options.prefetch = prefetch;
        Consumer::new(self.clone(), options).unwrap()
    }

    /// Makes messages ready, whose receipts are their numbers.
    pub(crate) fn make_ready(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let message = Message::new(number.to_string());
            let envelope = Envelope::new(number.into(), message).with_attempt(Some(1));
            lock(&self.ready).push_back(Received::new(envelope, Receipt::token(number, 0)));
        }
        self.arrival.notify_waiters();
    }

    fn note(&self, call: Call) {
        lock(&self.calls).push((Instant::now(), call));
    }

    /// The calls that `pick` picks, with their times.
    pub(crate) fn timed<T>(&self, pick: impl Fn(&Call) -> Option<T>) -> Vec<(Instant, T)> {
        let calls = lock(&self.calls);
        let picked = calls.iter().map(|(at, call)| (*at, pick(call)));
        picked
            .filter_map(|(at, one)| one.map(|one| (at, one)))
            .collect()
    }

    pub(crate) fn sends(&self) -> Vec<Vec<String>> {
        self.picked(|call| match call {
            Call::Send(bodies) => Some(bodies.clone()),
            _ => None,
        })
    }

    pub(crate) fn acks(&self) -> Vec<Vec<u64>> {
        self.picked(|call| match call {
            Call::Ack(numbers) => Some(numbers.clone()),
            _ => None,
        })
    }

    /// The numbers of all nacked messages, sorted.
    pub(crate) fn nacked(&self) -> Vec<u64> {
        let mut all = self
            .picked(|call| match call {
                Call::Nack(numbers, _) => Some(numbers.clone()),
                _ => None,
            })
            .concat();
        all.sort_unstable();
        all
    }

    pub(crate) fn extensions(&self) -> Vec<(Instant, (Vec<u64>, Duration))> {
        self.timed(|call| match call {
            Call::Extend(numbers, lease) => Some((numbers.clone(), *lease)),
            _ => None,
        })
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.picked(|call| Some(call.clone()))
    }

    fn picked<T>(&self, pick: impl Fn(&Call) -> Option<T>) -> Vec<T> {
        self.timed(pick).into_iter().map(|(_, one)| one).collect()
    }
}

fn numbers(receipts: &[Receipt]) -> Vec<u64> {
    receipts.iter().map(|r| r.numbers().unwrap().0).collect()
}

fn fates(errors: &Mutex<VecDeque<Option<Error>>>, count: usize) -> Vec<Result<()>> {
    let mut errors = lock(errors);
    (0..count)
        .map(|_| errors.pop_front().flatten().map_or(Ok(()), Err))
        .collect()
}

#[async_trait]
impl driver::Producer for Script {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn encoded_len(&self, message: &Message) -> usize {
        message.body().len()
    }

    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        let bodies = batch
            .iter()
            .map(|m| String::from_utf8_lossy(m.body()).into_owned());
        self.note(Call::Send(bodies.collect()));
        sleep(SECOND / 100).await;
        fates(&self.send_errors, batch.len())
            .into_iter()
            .map(|fate| fate.map(|()| MessageId::from(1)))
            .collect()
    }

    async fn close(&self) -> Result<()> {
        self.note(Call::Close);
        Ok(())
    }
}

#[async_trait]
impl driver::Consumer for Script {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        self.note(Call::Receive(max.get()));
        let deadline = Instant::now() + wait;
        sleep(SECOND / 100).await;
        if let Some(error) = lock(&self.receive_errors).pop_front() {
            return Err(error);
        }
        loop {
            let arrival = self.arrival.notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let received: Vec<_> = {
                let mut ready = lock(&self.ready);
                let n = ready.len().min(max.get());
                ready.drain(..n).collect()
            };
            if !received.is_empty() {
                lock(&self.given).extend(received.iter().cloned());
                let takes = *lock(&self.receive_takes);
                sleep(takes).await;
                return Ok(received);
            }
            if timeout_at(deadline, arrival).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        self.note(Call::Ack(numbers(receipts)));
        let takes = *lock(&self.ack_takes);
        sleep(takes).await;
        fates(&self.ack_errors, receipts.len())
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        self.note(Call::Nack(numbers(receipts), delay));
        if *lock(&self.gives_again) {
            let given = lock(&self.given).clone();
            let mut ready = lock(&self.ready);
            for number in numbers(receipts) {
                let one = given
                    .iter()
                    .find(|one| one.receipt.numbers().unwrap().0 == number);
                ready.push_back(one.unwrap().clone());
            }
            drop(ready);
            self.arrival.notify_waiters();
        }
        vec![Ok(()); receipts.len()]
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        self.note(Call::Extend(numbers(receipts), lease));
        let takes = *lock(&self.extend_takes);
        sleep(takes).await;
        fates(&self.extend_errors, receipts.len())
    }

    async fn close(&self) -> Result<()> {
        self.note(Call::Close);
        Ok(())
    }
}
