//! A destination that is down for a day, under a worker.
//!
//! Under a paused clock: what is sent on this machine arrives before the clock moves on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;
use towpath_core::{Attempt, Handler, Message, Outcome, Registry};
use towpath_memory::MemoryBackend;
use towpath_updater::{Destination, Updater, UpdaterConfig};
use towpath_worker::{Gate, Worker};

use crate::server::{Server, reply};

/// Notes the highest number that an attempt had.
struct Counting {
    updater: Updater,
    highest: Arc<Mutex<u32>>,
}

#[async_trait]
impl Handler for Counting {
    async fn handle(&self, attempt: Attempt) -> Outcome {
        let number = attempt.number().unwrap();
        {
            let mut highest = self.highest.lock().unwrap();
            *highest = number.max(*highest);
        }
        self.updater.handle(attempt).await
    }
}

struct Day {
    /// The bodies that were written, by entity, in the order of writing.
    written: BTreeMap<String, Vec<String>>,
    requests_while_down: usize,
    highest_attempt: u32,
    dead_letters: usize,
}

/// 60 messages of 4 entities; the destination is down for 24 h, and then up.
async fn day(max_lease: &str, adjust: impl FnOnce(&Server, Destination) -> Destination) -> Day {
    let server = Server::start([reply(503)]).await;
    let queue = Registry::new()
        .with(MemoryBackend::new())
        .open(&format!(
            "memory://events?max_attempts=5&dead_letter=events-dlq&max_lease={max_lease}"
        ))
        .unwrap();
    let producer = queue.producer().await.unwrap();
    for i in 0..60 {
        let entity = format!("customer-{}", i % 4);
        let body = format!(r#"{{"entity": "{entity}", "n": {i}}}"#);
        let message = Message::new(body).with_ordering_key(entity);
        producer.send(message).await.unwrap();
    }
    let destination = adjust(&server, server.destination("/{/entity}"));
    let consumer = queue.consumer().await.unwrap();
    let config = UpdaterConfig::new()
        .destination("crm", destination)
        .max_lease(consumer.max_lease());
    let updater = Updater::new(config).unwrap();
    updater.check_max_lease(consumer.max_lease()).unwrap();
    let gate = Gate::new();
    let _pausing = updater.pause(&gate);
    let highest = Arc::new(Mutex::new(0));
    let handler = Counting {
        updater: updater.clone(),
        highest: highest.clone(),
    };
    let worker = Worker::builder(consumer, handler)
        .gate(gate)
        .build()
        .unwrap();
    let stop = worker.shutdown_token();
    let worker = tokio::spawn(worker.run());

    tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
    let requests_while_down = server.seen().len();
    assert_eq!(updater.state()["crm"].succeeded, 0);
    server.set_reply(reply(200));
    let up = Instant::now();
    while updater.state()["crm"].succeeded < 60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(
            up.elapsed() < Duration::from_secs(3_600),
            "{:?}",
            updater.state()
        );
    }
    stop.cancel();
    let report = worker.await.unwrap();
    assert!(report.is_balanced(), "{report}");
    assert_eq!(report.acked, 60, "{report}");

    let dead = queue.dead_letter().unwrap().unwrap();
    let dead = dead.consumer().await.unwrap();
    let dead = dead
        .receive_batch(100, Duration::from_secs(1))
        .await
        .unwrap();
    let mut written = BTreeMap::<String, Vec<String>>::new();
    for seen in server.seen().split_off(requests_while_down) {
        if seen.method == "POST" {
            let body = String::from_utf8(seen.body.to_vec()).unwrap();
            written
                .entry(seen.uri.path().to_owned())
                .or_default()
                .push(body);
        }
    }
    let highest_attempt = *highest.lock().unwrap();
    Day {
        written,
        requests_while_down,
        highest_attempt,
        dead_letters: dead.len(),
    }
}

fn check(day: &Day) {
    assert_eq!(day.dead_letters, 0);
    assert_eq!(day.written.len(), 4);
    for (path, bodies) in &day.written {
        let entity = path.trim_start_matches('/');
        let first: usize = entity.trim_start_matches("customer-").parse().unwrap();
        let expected: Vec<String> = (first..60)
            .step_by(4)
            .map(|i| format!(r#"{{"entity": "{entity}", "n": {i}}}"#))
            .collect();
        assert_eq!(*bodies, expected);
    }
    // Only what failed before the breaker was open counts: 5 failures of 4 first messages.
    assert!(day.highest_attempt <= 3, "{}", day.highest_attempt);
}

#[tokio::test(start_paused = true)]
async fn a_day_of_outage_costs_no_attempts_and_loses_no_order() {
    let day = day("1h", |_, destination| destination).await;
    check(&day);
    // One request per cool-down of 5 min, and the few before.
    assert!(
        (250..350).contains(&day.requests_while_down),
        "{}",
        day.requests_while_down
    );
}

#[tokio::test(start_paused = true)]
async fn a_day_of_outage_with_a_probe_costs_no_attempts() {
    check(
        &day("1h", |server, destination| {
            destination.probe(server.url("/health"))
        })
        .await,
    );
}

#[tokio::test(start_paused = true)]
async fn a_day_of_outage_behind_a_front_that_answers_costs_no_attempts_with_long_leases() {
    let adjust = |server: &Server, destination| {
        server.set_head(reply(404));
        destination
    };
    check(&day("12h", adjust).await);
}

#[tokio::test(start_paused = true)]
async fn a_day_without_answers_costs_no_attempts() {
    let adjust = |server: &Server, destination| {
        server.set_open(false);
        let gate = server.gate();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
            gate.send_replace(true);
        });
        destination
    };
    check(&day("1h", adjust).await);
}
