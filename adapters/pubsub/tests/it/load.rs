//! Fault runs: a load over connections and servers that fail, judged by the history of every
//! message.
//!
//! The local servers keep their messages in memory, so a server that is started again has none. An
//! outage is made by a proxy in front of it instead, which resets all connections and refuses new
//! ones for some seconds: to a client, the same.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use libtest_mimic::Trial;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use towpath_conformance::history::{History, Ledger};
use towpath_core::{Consumer, Delivery, FailureClass, Message, Producer, QueueSpec};
use uuid::Uuid;

use crate::{
    Outcome,
    faults::Fault,
    proxy::{Mode, Proxy},
    server::{Server, TestQueue, unique},
};

/// How long a run may take until all messages are settled: two minutes on two quiet cores, and
/// much longer on busy ones.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long a run may take with its beginning and its end.
const LIMIT: Duration = Duration::from_secs(1_000);
/// How long a lease is, and so how long a settlement that was lost with its connection is missed.
const LEASE: Duration = Duration::from_secs(20);

pub(crate) fn trials(gcloud: &Server, pstest: &Server) -> Vec<Trial> {
    vec![
        gcloud.trial(
            "load",
            "nothing_is_lost_over_outages_cuts_and_a_slow_server",
            |server| Box::pin(over_connections(server)),
            LIMIT,
        ),
        pstest.trial(
            "load",
            "nothing_is_lost_over_ended_streams_and_failing_calls",
            |server| Box::pin(over_failing_calls(server)),
            LIMIT,
        ),
    ]
}

/// How large a run is.
#[derive(Clone, Copy, Debug)]
struct Size {
    messages: usize,
    producers: usize,
    consumers: usize,
}

async fn over_connections(server: Server) -> Outcome {
    let size = Size {
        messages: 100_000,
        producers: 4,
        consumers: 4,
    };
    let proxy = &Proxy::start(&server.endpoint).await?;
    run(server, &proxy.endpoint, size, |_, progress| async move {
        let second = Duration::from_secs(1);
        let [mut cuts, mut outages, mut slow, mut silent] = [0; 4];
        // At these parts of the work, in percent.
        for (i, percent) in (4..96).step_by(7).enumerate() {
            if !progress.reached(percent).await {
                return Err("the run ended before its faults".into());
            }
            match i % 4 {
                0 => {
                    cuts += 1;
                    proxy.cut();
                }
                1 => {
                    outages += 1;
                    proxy.outage(second * 4).await;
                }
                2 => {
                    slow += 1;
                    proxy.set(Mode::Slow(Duration::from_millis(40))).await;
                    sleep(second * 3).await;
                    proxy.set(Mode::Open).await;
                }
                _ => {
                    silent += 1;
                    proxy.set(Mode::Silent).await;
                    sleep(second * 3).await;
                    // What was on its way is lost.
                    proxy.cut();
                    proxy.set(Mode::Open).await;
                }
            }
        }
        Ok(format!(
            "cuts={cuts} outages={outages} slow={slow} silent={silent}"
        ))
    })
    .await
}

/// pstest gives each stream about 95 messages a second, so this run is smaller.
async fn over_failing_calls(server: Server) -> Outcome {
    let size = Size {
        messages: 5_000,
        producers: 2,
        consumers: 4,
    };
    let (endpoint, asked) = (server.endpoint.clone(), server.clone());
    run(server, &endpoint, size, |queue, progress| async move {
        let name = queue.name().to_owned();
        let ending = Fault::of("StreamingPull", &name, "UNAVAILABLE");
        let ending = ending.after(Duration::from_millis(1_500)).times(100_000);
        ending.ask(&asked).await?;
        let mut count = 0;
        for percent in (2..90).step_by(4) {
            if !progress.reached(percent).await {
                return Err("the run ended before its faults".into());
            }
            for fault in [
                Fault::publish(&name, "UNAVAILABLE").times(3),
                Fault::publish(&name, "INTERNAL").applied(),
                Fault::publish(&name, "").late(Duration::from_millis(500)),
                Fault::of("Acknowledge", &name, "UNAVAILABLE").times(2),
                Fault::of("Acknowledge", &name, "UNAVAILABLE").applied(),
                Fault::of("ModifyAckDeadline", &name, "UNAVAILABLE").times(2),
            ] {
                fault.ask(&asked).await?;
                count += 1;
            }
        }
        Ok(format!("stream_timeout=1.5s failures={count}"))
    })
    .await
}

/// Sends and settles all messages through `endpoint` while `faults` does what it does, and judges
/// what became of them.
async fn run<F>(
    server: Server,
    endpoint: &str,
    size: Size,
    faults: impl FnOnce(TestQueue, Progress) -> F,
) -> Outcome
where
    F: Future<Output = Result<String, Box<dyn std::error::Error + Send + Sync>>>,
{
    let name = server.name;
    let dead_letter = format!("{}-dlq", unique());
    let spec = QueueSpec::new()
        .with_lease(LEASE)
        .with_dead_letter(&dead_letter, 100);
    server
        .with_queue(spec, async |queue| {
            let begun = Instant::now();
            let queue = queue
                .with("dead_letter", &dead_letter)
                .with("request_timeout", "5s")
                .with("health_interval", "2s")
                .with("lease", "20s");
            let shared = Arc::new(Shared::new(size));
            let tasks = TaskTracker::new();
            let mut consumers = Vec::new();
            for number in 0..size.consumers {
                // A connection of its own, as in a process of its own.
                let behind = queue.clone().through(endpoint).open()?;
                let consumer = behind.consumer().await?;
                consumers.push(consumer.clone());
                let name = format!("consumer-{number}");
                let rng = Rng::with_seed(number as u64);
                tasks.spawn(consume(consumer, shared.clone(), rng, name));
            }
            let behind = queue.clone().through(endpoint).open()?;
            let dead_letters = behind.dead_letter()?.ok_or("a dead-letter queue")?;
            tasks.spawn(drain(dead_letters.consumer().await?, shared.clone()));
            let producer = behind.producer().await?;
            for number in 0..size.producers {
                let rng = Rng::with_seed(number as u64);
                tasks.spawn(produce(producer.clone(), shared.clone(), rng, number));
            }
            let deadline = begun + PATIENCE;
            let progress = Progress(shared.settled.subscribe(), size.messages);
            let done = progress.clone();
            let (done, faulted) = tokio::join!(
                timeout_at(deadline, done.reached(100)),
                timeout_at(deadline, faults(queue, progress)),
            );
            let healed = begun.elapsed();
            shared.end.cancel();
            tasks.close();
            tasks.wait().await;
            for consumer in consumers {
                consumer.close().await?;
            }
            let closing = Closing {
                server: name,
                ledger: shared.history.check(),
                seconds: healed.as_secs_f64(),
                redelivered: shared.redelivered.load(Ordering::Relaxed),
                failed_sends: shared.failed_sends.load(Ordering::Relaxed),
                receive_errors: shared.receive_errors.load(Ordering::Relaxed),
                faults: faulted.unwrap_or_else(|_| Ok("unfinished".to_owned()))?,
            };
            say(&closing);
            assert!(closing.ledger.is_safe(), "{closing}");
            assert!(
                done.is_ok(),
                "it did not heal within {PATIENCE:?}: {closing}"
            );
            assert_eq!(closing.ledger.accepted, size.messages, "{closing}");
            assert!(closing.ledger.overlapping.is_empty(), "{closing}");
            assert_ne!(closing.faults, "unfinished", "{closing}");
            Ok(())
        })
        .await
}

#[expect(clippy::print_stdout, reason = "the closing line of a run")]
fn say(closing: &Closing) {
    println!("{closing}");
}

/// What a run says at its end.
struct Closing {
    server: &'static str,
    ledger: Ledger,
    seconds: f64,
    redelivered: usize,
    failed_sends: usize,
    receive_errors: usize,
    faults: String,
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "load server={} seconds={:.1} {} redelivered={} failed_sends={} receive_errors={} {}",
            self.server,
            self.seconds,
            self.ledger,
            self.redelivered,
            self.failed_sends,
            self.receive_errors,
            self.faults,
        )
    }
}

/// What the tasks of a run share.
struct Shared {
    size: Size,
    history: History,
    /// The messages that reached their end: acked, or in the dead-letter queue.
    ended: Mutex<BTreeSet<Uuid>>,
    settled: watch::Sender<usize>,
    redelivered: AtomicUsize,
    failed_sends: AtomicUsize,
    receive_errors: AtomicUsize,
    end: CancellationToken,
}

impl Shared {
    fn new(size: Size) -> Self {
        Self {
            size,
            history: History::new(),
            ended: Mutex::default(),
            settled: watch::Sender::new(0),
            redelivered: AtomicUsize::new(0),
            failed_sends: AtomicUsize::new(0),
            receive_errors: AtomicUsize::new(0),
            end: CancellationToken::new(),
        }
    }

    fn has_ended(&self, key: Uuid) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.contains(&key)
    }

    fn ends(&self, key: Uuid) {
        let count = {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.insert(key);
            ended.len()
        };
        self.settled.send_replace(count);
    }
}

/// How many messages reached their end.
#[derive(Clone)]
struct Progress(watch::Receiver<usize>, usize);

impl Progress {
    /// Waits until so much of the work is done; `false` when it never will be.
    async fn reached(&self, percent: usize) -> bool {
        let wanted = self.1 * percent / 100;
        let mut settled = self.0.clone();
        settled.wait_for(|count| *count >= wanted).await.is_ok()
    }
}

/// Sends its share, each message again until it is accepted.
async fn produce(producer: Producer, shared: Arc<Shared>, mut rng: Rng, number: usize) {
    let share = shared.size.messages / shared.size.producers;
    let mut left = share;
    while left > 0 && !shared.end.is_cancelled() {
        let count = rng.usize(1..=200).min(left);
        left -= count;
        let mut batch: Vec<Message> = (0..count)
            .map(|i| {
                Message::new(vec![rng.u8(..); rng.usize(1..300)])
                    .with_attribute("number", format!("{number}-{left}-{i}"))
            })
            .collect();
        for message in &batch {
            shared.history.accepted(message);
        }
        while !batch.is_empty() && !shared.end.is_cancelled() {
            let results = producer.send_batch(&batch).await;
            let mut results = results.iter();
            batch.retain(|_| results.next().is_some_and(Result::is_err));
            if !batch.is_empty() {
                shared
                    .failed_sends
                    .fetch_add(batch.len(), Ordering::Relaxed);
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Receives until the end; acks most, and misbehaves with the others.
async fn consume(consumer: Consumer, shared: Arc<Shared>, mut rng: Rng, name: String) {
    while !shared.end.is_cancelled() {
        let received = consumer
            .receive_batch(rng.usize(1..200), Duration::from_millis(500))
            .await;
        let Ok(batch) = received else {
            shared.receive_errors.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        for delivery in &batch {
            let envelope = delivery.envelope();
            shared.history.received(envelope, &name);
            if shared.has_ended(envelope.message.idempotency_key()) {
                shared.redelivered.fetch_add(1, Ordering::Relaxed);
            }
        }
        for delivery in batch {
            settle(delivery, &shared, &mut rng, &name).await;
        }
    }
}

async fn settle(delivery: Delivery, shared: &Shared, rng: &mut Rng, name: &str) {
    let envelope = delivery.envelope().clone();
    let key = envelope.message.idempotency_key();
    // What was dead-lettered, and came again because its ack was lost, is done.
    let choice = if shared.has_ended(key) {
        0
    } else {
        rng.u32(0..200)
    };
    match choice {
        0..190 => match delivery.ack().await {
            Ok(_) => {
                shared.history.acked(&envelope, name);
                shared.ends(key);
            }
            Err(_) => shared.history.released(&envelope, name),
        },
        190..193 => {
            shared.history.released(&envelope, name);
            // A refused nack gives the delivery back, and dropping it releases.
            let _ = delivery
                .nack(Duration::from_millis(rng.u64(0..2_000)))
                .await;
        }
        193..196 => {
            shared.history.released(&envelope, name);
            drop(delivery);
        }
        _ => {
            shared.history.released(&envelope, name);
            let class = FailureClass::Permanent;
            let _ = delivery.dead_letter(class, "cannot succeed").await;
        }
    }
}

/// Notes what arrives in the dead-letter queue.
async fn drain(consumer: Consumer, shared: Arc<Shared>) {
    let mut seen = BTreeSet::new();
    while !shared.end.is_cancelled() {
        let wait = Duration::from_millis(500);
        let Ok(batch) = consumer.receive_batch(100, wait).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        for delivery in batch {
            let message = &delivery.envelope().message;
            let key = message.idempotency_key();
            if seen.insert(key) {
                shared.history.dead_lettered(message);
                shared.ends(key);
            }
            let _ = delivery.ack().await;
        }
    }
    let _ = consumer.close().await;
}
