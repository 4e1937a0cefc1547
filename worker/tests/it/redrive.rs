use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use towpath_core::{
    Consumer, Error, ErrorKind, FailureClass, FailureRecord, Message, Outcome, Producer, Queue,
    Registry,
};
use towpath_memory::{Faults, MemoryBackend};
use towpath_worker::{Fate, Redrive, RedriveEnd, RedriveFilter, RedriveReport, redrive};

use crate::driver::StubbornDriver;
use crate::support::{SECOND, Setup, eventually, start};

struct Queues {
    origin: Queue,
    dead: Queue,
    other: Queue,
}

impl Queues {
    fn new() -> Self {
        Self::with(MemoryBackend::new())
    }

    fn with(backend: MemoryBackend) -> Self {
        let registry = Registry::new().with(backend);
        let open = |url| registry.open(url).unwrap();
        Self {
            origin: open("memory://orders?dead_letter=dead"),
            dead: open("memory://dead"),
            other: open("memory://other"),
        }
    }

    /// Puts a dead letter of the origin into the dead-letter queue.
    async fn bury(&self, body: &str, edit: impl FnOnce(&mut FailureRecord)) -> Message {
        let mut record = FailureRecord::new(FailureClass::AttemptsExhausted, "timed out", "orders");
        record.attempts = 5;
        edit(&mut record);
        let message = Message::new(body.to_owned())
            .with_attribute("tenant", "acme")
            .with_failure(Some(record));
        let dead = self.dead.producer().await.unwrap();
        dead.send(message.clone()).await.unwrap();
        message
    }

    async fn dead(&self) -> Consumer {
        self.dead.consumer().await.unwrap()
    }

    async fn orders(&self) -> Producer {
        self.origin.producer().await.unwrap()
    }
}

async fn depth(queue: &Queue) -> u64 {
    let depth = queue.admin().await.unwrap().depth().await.unwrap();
    assert_eq!(depth.leased, 0, "everything is released in the end");
    depth.total()
}

#[tokio::test(start_paused = true)]
async fn a_redriven_message_keeps_what_it_is_and_knows_that_it_was_redriven() {
    let queues = Queues::new();
    let sent = queues
        .bury("x", |record| {
            record.ordering_key = Some("customer-4".into());
            record.redrives = 1;
            record.first_sent_ms = Some(7);
        })
        .await;
    let report = Redrive::new(queues.dead().await)
        .route("orders", queues.orders().await)
        .run()
        .await
        .unwrap();
    assert_eq!((report.seen, report.redriven), (1, 1));
    assert!(matches!(report.end, RedriveEnd::Empty), "{report}");
    assert_eq!(depth(&queues.dead).await, 0);
    let consumer = queues.origin.consumer().await.unwrap();
    let delivery = consumer.receive().await.unwrap();
    let message = &delivery.envelope().message;
    assert_eq!(message.idempotency_key(), sent.idempotency_key());
    assert_eq!(message.body(), sent.body());
    assert_eq!(message.attributes(), sent.attributes());
    assert_eq!(message.ordering_key(), Some("customer-4"));
    let record = message.failure().unwrap();
    assert_eq!((record.redrives, record.attempts), (2, 5));
    assert_eq!(record.first_sent_ms, Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_again_carries_its_redrives_along() {
    let setup = Setup::new("memory://orders?dead_letter=dead").await;
    let sent = setup.send("x").await;
    let builder = setup
        .worker(|_| async {
            Outcome::DeadLetter {
                class: FailureClass::Permanent,
                reason: "no".into(),
            }
        })
        .await;
    let running = start(builder);
    let dead = setup.queue.dead_letter().unwrap().unwrap();
    for redrives in 1..=3 {
        eventually(async || {
            let admin = dead.admin().await.unwrap();
            admin.depth().await.unwrap().ready == 1
        })
        .await;
        let report = Redrive::new(dead.consumer().await.unwrap())
            .route("orders", setup.producer.clone())
            .limit(1)
            .run()
            .await
            .unwrap();
        assert_eq!(report.redriven, 1, "{redrives}");
    }
    eventually(async || setup.depth().await.total() == 0).await;
    running.stop().await;
    let dead = setup.dead().await;
    let message = &dead[0].envelope().message;
    assert_eq!(message.failure().unwrap().redrives, 3);
    assert_eq!(message.idempotency_key(), sent.idempotency_key());
}

#[tokio::test(start_paused = true)]
async fn only_what_the_filter_lets_through_is_redriven_and_the_rest_stays() {
    let queues = Queues::new();
    for n in 0..30 {
        queues
            .bury(&n.to_string(), |record| {
                if n % 3 == 0 {
                    record.class = FailureClass::Permanent;
                }
            })
            .await;
    }
    let filter = RedriveFilter::new()
        .class(FailureClass::Permanent)
        .attribute("tenant", "acme")
        .failed_before(SystemTime::now() + Duration::from_secs(60));
    let report = Redrive::new(queues.dead().await)
        .route("orders", queues.orders().await)
        .filter(filter)
        .limit(4)
        .run()
        .await
        .unwrap();
    assert_eq!(report.redriven, 4, "{report}");
    assert!(matches!(report.end, RedriveEnd::Limit));
    assert_eq!(report.seen, report.redriven + report.filtered_out);
    assert_eq!(depth(&queues.dead).await, 26);
    assert_eq!(depth(&queues.origin).await, 4);
    let consumer = queues.origin.consumer().await.unwrap();
    for delivery in consumer.receive_batch(10, SECOND).await.unwrap() {
        let record = delivery.envelope().message.failure().unwrap();
        assert_eq!(record.class, FailureClass::Permanent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing_and_tells_all() {
    let queues = Queues::new();
    for _ in 0..3 {
        queues.bury("x", |_| {}).await;
    }
    queues
        .bury("y", |record| record.queue = "bills".into())
        .await;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let audit = lines.clone();
    let report = Redrive::new(queues.dead().await)
        .route("orders", queues.orders().await)
        .dry_run(true)
        .audit(move |line| audit.lock().unwrap().push(line.clone()))
        .run()
        .await
        .unwrap();
    assert_eq!((report.seen, report.redriven, report.no_route), (4, 3, 1));
    assert!(
        report.to_string().starts_with("seen=4 would_redrive=3"),
        "{report}"
    );
    assert_eq!(depth(&queues.dead).await, 4);
    assert_eq!(depth(&queues.origin).await, 0);
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0].fate, Fate::WouldRedrive);
    let json: serde_json::Value = serde_json::from_str(&lines[3].to_string()).unwrap();
    assert_eq!(json["fate"], "no_route");
    assert_eq!(json["origin"], "bills");
    assert_eq!(json["class"], "attempts_exhausted");
}

#[tokio::test(start_paused = true)]
async fn an_override_takes_what_has_no_route() {
    let queues = Queues::new();
    queues.bury("x", |_| {}).await;
    queues
        .bury("y", |record| record.queue = "bills".into())
        .await;
    // Moved by a broker, without a record.
    let dead = queues.dead.producer().await.unwrap();
    dead.send("z").await.unwrap();
    let report = Redrive::new(queues.dead().await)
        .route("orders", queues.orders().await)
        .to(queues.other.producer().await.unwrap())
        .run()
        .await
        .unwrap();
    assert_eq!(report.redriven, 3, "{report}");
    assert_eq!(depth(&queues.origin).await, 1);
    let consumer = queues.other.consumer().await.unwrap();
    let others = consumer.receive_batch(10, SECOND).await.unwrap();
    assert_eq!(others.len(), 2);
    for delivery in &others {
        assert_eq!(delivery.envelope().message.failure().unwrap().redrives, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept() {
    let queues = Queues::new();
    for _ in 0..100 {
        queues.bury("x", |_| {}).await;
    }
    let begun = Instant::now();
    let report = Redrive::new(queues.dead().await)
        .route("orders", queues.orders().await)
        .rate(NonZeroU32::new(10).unwrap(), SECOND)
        .limit(100)
        .run()
        .await
        .unwrap();
    assert_eq!(report.redriven, 100);
    let took = begun.elapsed();
    assert!(took >= 9 * SECOND && took <= 11 * SECOND, "{took:?}");
}

/// I8.
#[tokio::test(start_paused = true)]
async fn a_redrive_that_is_killed_anywhere_loses_nothing() {
    let faults = Faults::new().with_slow_send(SECOND / 5, 1.0);
    for killed_after in 0..60 {
        let queues = Queues::with(MemoryBackend::with_faults(faults.clone(), 1).unwrap());
        let mut keys = Vec::new();
        for n in 0..20 {
            keys.push(queues.bury(&n.to_string(), |_| {}).await.idempotency_key());
        }
        let redrive = Redrive::new(queues.dead().await)
            .route("orders", queues.orders().await)
            .rate(NonZeroU32::new(2).unwrap(), SECOND)
            .run();
        // Dropped at some point.
        let limit = Duration::from_millis(173) * killed_after;
        let _ = tokio::time::timeout(limit, redrive).await;
        let mut found = Vec::new();
        for queue in [&queues.origin, &queues.dead] {
            let consumer = queue.consumer().await.unwrap();
            tokio::time::sleep(120 * SECOND).await;
            // Messages of one ordering key come one at a time; these have none.
            let batch = consumer.receive_batch(100, SECOND).await.unwrap();
            found.extend(batch.iter().map(|d| d.envelope().message.idempotency_key()));
        }
        for key in keys {
            assert!(found.contains(&key), "lost when killed after {limit:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_redrive_that_is_killed_before_its_acks_leaves_doubles_of_one_key() {
    let backend = MemoryBackend::new();
    let queues = Queues::with(backend.clone());
    let key = queues.bury("x", |_| {}).await.idempotency_key();
    let driver = StubbornDriver::of(&backend, &queues.dead).await;
    driver.acks.close_gate();
    let redrive = Redrive::new(driver.consumer())
        .route("orders", queues.orders().await)
        .run();
    assert!(tokio::time::timeout(SECOND, redrive).await.is_err());
    assert_eq!(driver.acks.waiting(), 1);
    // The lease of the killed process runs out.
    tokio::time::sleep(60 * SECOND).await;
    for queue in [&queues.origin, &queues.dead] {
        let consumer = queue.consumer().await.unwrap();
        let delivery = consumer.receive().await.unwrap();
        assert_eq!(delivery.envelope().message.idempotency_key(), key);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_comes_again_after_its_ack_is_not_sent_once_more() {
    let backend = MemoryBackend::new();
    let queues = Queues::with(backend.clone());
    queues.bury("x", |_| {}).await;
    queues.bury("y", |_| {}).await;
    let driver = StubbornDriver::of(&backend, &queues.dead).await;
    driver.acks.forget_next(1);
    let report = Redrive::new(driver.consumer())
        .route("orders", queues.orders().await)
        .run()
        .await
        .unwrap();
    assert_eq!(
        (report.seen, report.redriven, report.came_again),
        (4, 2, 2),
        "{report}"
    );
    assert_eq!(depth(&queues.origin).await, 2);
    assert_eq!(depth(&queues.dead).await, 0, "removed again");
}

/// Redrives all dead letters through `driver`, and says what became of each, in order. `saw` is
/// called with each line of the audit.
async fn redrive_through(
    driver: &StubbornDriver,
    target: Producer,
    saw: impl Fn(Fate, &StubbornDriver) + Send + Sync + 'static,
) -> (RedriveReport, Vec<Fate>) {
    let fates = Arc::new(Mutex::new(Vec::new()));
    let (audit, audited) = (fates.clone(), driver.clone());
    let report = Redrive::new(driver.consumer())
        .route("orders", target)
        .quiet(120 * SECOND)
        .audit(move |line| {
            audit.lock().unwrap().push(line.fate);
            saw(line.fate, &audited);
        })
        .run()
        .await
        .unwrap();
    let fates = fates.lock().unwrap().clone();
    (report, fates)
}

fn refused() -> Option<Error> {
    Some(Error::new(ErrorKind::PermissionDenied, "no"))
}

#[tokio::test(start_paused = true)]
async fn what_came_again_and_cannot_be_removed_is_told_as_in_both_queues() {
    let backend = MemoryBackend::new();
    let queues = Queues::with(backend.clone());
    queues.bury("x", |_| {}).await;
    queues.bury("y", |_| {}).await;
    let driver = StubbornDriver::of(&backend, &queues.dead).await;
    driver.acks.forget_next(1);
    driver.acks.fail(refused());
    let (report, fates) = redrive_through(&driver, queues.orders().await, |_, _| {}).await;
    assert_eq!((report.seen, report.came_again), (4, 2), "{report}");
    assert_eq!((report.redriven, report.unacked), (0, 2), "{report}");
    use Fate::{CameAgain, Redriven, Unacked};
    assert_eq!(
        fates,
        [Redriven, Redriven, CameAgain, CameAgain, Unacked, Unacked]
    );
    assert_eq!(depth(&queues.origin).await, 2);
    assert_eq!(depth(&queues.dead).await, 2, "given back");
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_when_it_came_again_is_not_told_as_in_both_queues() {
    let backend = MemoryBackend::new();
    let queues = Queues::with(backend.clone());
    queues.bury("x", |_| {}).await;
    let driver = StubbornDriver::of(&backend, &queues.dead).await;
    // The first ack fails, and the message comes again when its lease runs out.
    let lost = Error::new(ErrorKind::LeaseLost, "too late");
    driver.acks.fail(Some(lost));
    let (report, fates) = redrive_through(&driver, queues.orders().await, |fate, driver| {
        if fate == Fate::Unacked {
            driver.acks.fail(None);
        }
    })
    .await;
    assert_eq!((report.seen, report.came_again), (2, 1), "{report}");
    assert_eq!((report.redriven, report.unacked), (1, 0), "{report}");
    assert_eq!(fates, [Fate::Unacked, Fate::CameAgain, Fate::Redriven]);
    assert_eq!(depth(&queues.origin).await, 1, "sent once");
    assert_eq!(depth(&queues.dead).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_failed_is_tried_again_at_the_end() {
    let backend = MemoryBackend::new();
    for is_mended in [true, false] {
        let queues = Queues::with(backend.clone());
        queues.bury("x", |_| {}).await;
        let driver = StubbornDriver::of(&backend, &queues.dead).await;
        driver.acks.fail(refused());
        let (report, _) = redrive_through(&driver, queues.orders().await, move |_, driver| {
            if is_mended {
                driver.acks.fail(None);
            }
        })
        .await;
        assert_eq!((report.seen, report.came_again), (1, 0), "held until then");
        let removed = u64::from(is_mended);
        assert_eq!((report.redriven, report.unacked), (removed, 1 - removed));
        assert_eq!(depth(&queues.dead).await, 1 - removed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_without_an_answer_is_told_as_such_and_not_repeated() {
    let backend = MemoryBackend::new();
    let queues = Queues::with(backend.clone());
    queues.bury("x", |_| {}).await;
    queues
        .bury("y", |record| record.queue = "bills".into())
        .await;
    let registry = Registry::new().with(backend);
    let target = "memory://silent?profile=sqs&faults=lost_send:1&send_timeout=1ms";
    let target = registry.open(target).unwrap();
    // Messages are held for a shorter time than the pass takes, so what stays comes again.
    let dead = registry.open("memory://dead?max_lease=30s").unwrap();
    let report = Redrive::new(dead.consumer().await.unwrap())
        .route("orders", target.producer().await.unwrap())
        .route("bills", queues.other.producer().await.unwrap())
        .quiet(120 * SECOND)
        .run_until(tokio::time::sleep(200 * SECOND))
        .await
        .unwrap();
    assert!(report.came_again > 0, "{report}");
    assert_eq!((report.unanswered, report.redriven), (1, 1), "{report}");
    assert_eq!((report.not_sent, report.unacked), (0, 0), "{report}");
    assert_eq!(depth(&target).await, 1, "sent once");
    assert_eq!(depth(&queues.dead).await, 1, "it stays");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_ends_the_pass_and_all_messages_stay() {
    let queues = Queues::new();
    for _ in 0..5 {
        queues.bury("x", |_| {}).await;
    }
    let orders = queues.orders().await;
    orders.close().await.unwrap();
    let report = Redrive::new(queues.dead().await)
        .route("orders", orders)
        .run()
        .await
        .unwrap();
    assert_eq!((report.redriven, report.not_sent), (0, 5));
    let RedriveEnd::TargetFailed(error) = &report.end else {
        panic!("{report}");
    };
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(depth(&queues.dead).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_redrive_without_a_target_or_into_itself_is_refused() {
    let queues = Queues::new();
    let error = Redrive::new(queues.dead().await).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let dead = queues.dead.producer().await.unwrap();
    let error = Redrive::new(queues.dead().await)
        .route("dead", dead)
        .run()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("itself"), "{error}");
    queues.bury("x", |_| {}).await;
    let dead = || async { queues.dead.producer().await.unwrap() };
    for redrive in [
        Redrive::new(queues.dead().await).to(dead().await),
        Redrive::new(queues.dead().await)
            .to(queues.orders().await)
            .route("orders", dead().await),
    ] {
        let error = redrive.run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("memory://dead"), "{error}");
    }
    assert_eq!(depth(&queues.dead).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_report_is_json_with_the_reason_of_its_end() {
    let queues = Queues::new();
    queues.bury("x", |_| {}).await;
    let orders = queues.orders().await;
    let redrive = || async { Redrive::new(queues.dead().await).route("orders", orders.clone()) };
    let report = redrive().await.dry_run(true).run().await.unwrap();
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        serde_json::json!({
            "seen": 1, "redriven": 1, "unacked": 0, "unanswered": 0, "filtered_out": 0,
            "no_route": 0, "not_sent": 0, "came_again": 0, "dry_run": true, "end": "empty",
        })
    );
    orders.close().await.unwrap();
    let report = redrive().await.run().await.unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["end"], "target_failed");
    assert!(json["error"].as_str().unwrap().contains("closed"), "{json}");
}

#[tokio::test(start_paused = true)]
async fn an_edited_copy_is_a_redrive_like_any_other() {
    let queues = Queues::new();
    let sent = queues
        .bury("wrong", |record| {
            record.ordering_key = Some("customer-4".into())
        })
        .await;
    let (dead, orders) = (queues.dead().await, queues.orders().await);
    let letter = dead.receive().await.unwrap();
    let message = redrive::copy(letter.envelope(), dead.queue(), &orders).with_body("right");
    assert_eq!(message.body(), "right");
    assert_eq!(message.idempotency_key(), sent.idempotency_key());
    assert_eq!(message.ordering_key(), Some("customer-4"));
    assert_eq!(message.failure().unwrap().redrives, 1);
    orders.send(message).await.unwrap();
    letter.ack().await.unwrap();
    assert_eq!(depth(&queues.origin).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_signal_stops_a_redrive_and_what_is_held_back_is_released() {
    let queues = Queues::new();
    for _ in 0..5 {
        queues.bury("x", |_| {}).await;
    }
    let report = Redrive::new(queues.dead().await)
        .route("orders", queues.orders().await)
        .filter(RedriveFilter::new().class(FailureClass::TooOld))
        .quiet(3_600 * SECOND)
        .run_until(tokio::time::sleep(60 * SECOND))
        .await
        .unwrap();
    assert!(matches!(report.end, RedriveEnd::Stopped), "{report}");
    assert_eq!(report.filtered_out, 5);
    assert_eq!(depth(&queues.dead).await, 5);
}
