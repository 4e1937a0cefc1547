//! A load with misbehaving consumers, judged by the history of every message.

use std::{collections::BTreeSet, time::Duration};

use fastrand::Rng;
use towpath_conformance::history::{History, Ledger};
use towpath_core::{Consumer, Delivery, FailureClass, Message, Registry};
use towpath_memory::MemoryBackend;

const MESSAGES: usize = 3_000;
/// Longer than every lease and every delay, so that an empty answer means an empty queue.
const END: Duration = Duration::from_secs(300);

/// Sends, lets four consumers ack, nack, drop, abandon and dead-letter at random, and returns what
/// became of every message.
async fn run(url: &str, seed: u64, is_ordered: bool) -> Ledger {
    let queue = Registry::new()
        .with(MemoryBackend::new())
        .open(url)
        .unwrap();
    let history = History::new();
    let mut consumers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let consumer = queue.consumer().await.unwrap();
        let history = history.clone();
        let rng = Rng::with_seed(seed.wrapping_mul(31).wrapping_add(number));
        consumers.spawn(consume(
            consumer,
            history,
            rng,
            format!("consumer-{number}"),
            is_ordered,
        ));
    }
    let producer = queue.producer().await.unwrap();
    let mut rng = Rng::with_seed(seed);
    for number in 0..MESSAGES {
        let mut message = Message::new(vec![rng.u8(..); rng.usize(1..300)])
            .with_attribute("number", number.to_string());
        if is_ordered {
            message = message.with_ordering_key(format!("key-{}", rng.u32(..20)));
        }
        history.accepted(&message);
        producer.send(message).await.unwrap();
    }
    while let Some(ended) = consumers.join_next().await {
        ended.unwrap();
    }
    let dead_letters = queue
        .dead_letter()
        .unwrap()
        .unwrap()
        .consumer()
        .await
        .unwrap();
    let mut seen = BTreeSet::new();
    loop {
        let batch = dead_letters
            .receive_batch(100, Duration::ZERO)
            .await
            .unwrap();
        if batch.is_empty() {
            break;
        }
        for delivery in batch {
            let message = &delivery.envelope().message;
            assert!(message.failure().is_some(), "a dead letter has its reason");
            if seen.insert(message.idempotency_key()) {
                history.dead_lettered(message);
            }
            delivery.ack().await.unwrap();
        }
    }
    history.check()
}

async fn consume(
    consumer: Consumer,
    history: History,
    mut rng: Rng,
    name: String,
    is_ordered: bool,
) {
    loop {
        // What a simulated outage refuses is asked for again.
        let Ok(batch) = consumer.receive_batch(rng.usize(1..20), END).await else {
            continue;
        };
        if batch.is_empty() {
            return;
        }
        let mut held: Vec<Delivery> = batch;
        for delivery in &held {
            history.received(delivery.envelope(), &name);
        }
        if !is_ordered {
            rng.shuffle(&mut held);
        }
        for delivery in held {
            tokio::time::sleep(Duration::from_millis(rng.u64(0..20))).await;
            let envelope = delivery.envelope().clone();
            match rng.u32(0..100) {
                0..75 if is_ordered => {
                    // Before the next of its key can be handed out.
                    history.acked(&envelope, &name);
                    delivery.ack().await.unwrap();
                }
                0..75 => match delivery.ack().await {
                    Ok(_) => history.acked(&envelope, &name),
                    Err(_) => history.released(&envelope, &name),
                },
                outcome => {
                    history.released(&envelope, &name);
                    match outcome {
                        75..85 => {
                            let delay = Duration::from_millis(rng.u64(0..5_000));
                            // A refused nack gives the delivery back, and dropping it releases.
                            let _ = delivery.nack(delay).await;
                        }
                        85..92 => drop(delivery),
                        92..96 => delivery.abandon(),
                        _ => {
                            let class = FailureClass::Permanent;
                            let _ = delivery.dead_letter(class, "cannot succeed").await;
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_deliveries_are_exact_nothing_at_all_is_wrong() {
    for seed in 1..=3 {
        let ledger = run("memory://load?dead_letter=load-dlq", seed, true).await;
        assert!(ledger.is_clean(), "seed={seed} {ledger}");
        assert_eq!(
            ledger.done + ledger.dead_lettered,
            MESSAGES,
            "seed={seed} {ledger}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn under_the_faults_of_a_cloud_nothing_is_lost_changed_or_made_up() {
    let url = "memory://load?dead_letter=load-dlq&profile=sqs\
               &faults=duplicate:0.03,reorder:0.1,throttle:0.05,lost_ack:0.02,receive_error:0.02";
    for seed in 1..=3 {
        let ledger = run(&format!("{url}&seed={seed}"), seed, false).await;
        assert!(ledger.is_safe(), "seed={seed} {ledger}");
        assert!(
            ledger.done + ledger.dead_lettered >= MESSAGES,
            "seed={seed} {ledger}"
        );
    }
}
