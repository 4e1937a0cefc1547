//! Nacks with a delay, which Pub/Sub does not have: the message is held. Longer ones are in
//! `long_delays`.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;
use towpath_core::{ErrorKind, Message, QueueSpec};

use crate::{
    Outcome, ServerTest,
    closing::long_lease,
    crash,
    server::{Server, ack, body, is_empty, nack, receive, receive_one},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    a_delayed_message_never_comes_early,
    held_messages_do_not_keep_others_waiting,
    what_cannot_be_held_is_told,
    a_held_message_comes_again_when_its_consumer_is_dropped,
    a_held_message_comes_again_when_its_process_is_killed,
    a_delayed_message_keeps_its_place_in_its_ordering_key,
];

async fn a_delayed_message_never_comes_early(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            queue.send(0..1).await?;
            let consumer = queue.consumer().await?;
            // Longer than streams stay open when nobody asks, and shorter than a lease.
            for delay in [Duration::from_millis(300), Duration::from_secs(3)] {
                let received = receive_one(&*consumer).await?;
                let begun = Instant::now();
                nack(&*consumer, received, delay).await?;
                let received = receive_one(&*consumer).await?;
                let waited = begun.elapsed();
                assert!(waited >= delay, "{waited:?} of {delay:?}");
                nack(&*consumer, received, Duration::ZERO).await?;
            }
            // Longer than a lease, which is 10 s.
            let received = receive_one(&*consumer).await?;
            nack(&*consumer, received, Duration::from_secs(14)).await?;
            let other = queue.consumer().await?;
            assert!(is_empty(&*other, Duration::from_secs(13)).await?, "early");
            other.close().await?;
            let received = receive_one(&*consumer).await?;
            ack(&*consumer, received).await?;
            Ok(())
        })
        .await
}

async fn held_messages_do_not_keep_others_waiting(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let queue = queue.with("max_outstanding", "5");
            queue.send(0..40).await?;
            let consumer = queue.consumer().await?;
            // More than may be under way at once are held, for longer than the test takes.
            let mut held = BTreeSet::new();
            for received in receive(&*consumer, 15).await? {
                held.insert(body(&received));
                nack(&*consumer, received, Duration::from_secs(300)).await?;
            }
            let mut others = BTreeSet::new();
            while others.len() < 25 {
                for received in receive(&*consumer, 1).await? {
                    others.insert(body(&received));
                    ack(&*consumer, received).await?;
                }
            }
            assert!(held.is_disjoint(&others), "a held message came early");
            Ok(())
        })
        .await
}

async fn what_cannot_be_held_is_told(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let queue = queue.with("max_held", "2");
            queue.send(0..3).await?;
            let consumer = queue.consumer().await?;
            let receipts: Vec<_> = receive(&*consumer, 3)
                .await?
                .into_iter()
                .map(|received| received.receipt)
                .collect();
            let mut results = consumer.nack(&receipts, Duration::from_secs(60)).await;
            let last = results.pop().expect("a result per entry");
            for result in results {
                result?;
            }
            let error = last.expect_err("there is room for two");
            assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
            assert!(error.message().contains("max_held"), "{error}");
            let after = error.retry_after().expect("a time");
            assert!(after <= Duration::from_secs(60), "{after:?}");
            // It is still the caller's.
            consumer.ack(&receipts[2..]).await.remove(0)?;
            Ok(())
        })
        .await
}

async fn a_held_message_comes_again_when_its_consumer_is_dropped(server: Server) -> Outcome {
    server
        .with_queue(long_lease(), async |queue| {
            let (consumer, received) = queue.receive_first().await?;
            nack(&*consumer, received, Duration::from_secs(600)).await?;
            drop(consumer);
            receive_one(&*queue.consumer().await?).await?;
            Ok(())
        })
        .await
}

async fn a_held_message_comes_again_when_its_process_is_killed(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            queue.send(0..1).await?;
            let held = crash::hold(&queue.config, Duration::from_secs(600)).await?;
            let consumer = queue.consumer().await?;
            // Longer than the lease: the other process keeps it.
            assert!(is_empty(&*consumer, Duration::from_secs(12)).await?);
            held.kill().await?;
            receive_one(&*consumer).await?;
            Ok(())
        })
        .await
}

async fn a_delayed_message_keeps_its_place_in_its_ordering_key(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new().with_ordering(), async |queue| {
            let message =
                |key: &str, i: usize| Message::new(format!("{key}{i}")).with_ordering_key(key);
            let messages: Vec<_> = (0..4)
                .flat_map(|i| [message("a", i), message("b", i)])
                .collect();
            queue.send_all(&messages).await?;
            let consumer = queue.consumer().await?;
            let mut order = Vec::new();
            let mut delayed_at = None;
            while order.len() < messages.len() {
                let received = receive_one(&*consumer).await?;
                let name = body(&received);
                if name == "a1" && delayed_at.is_none() {
                    delayed_at = Some(Instant::now());
                    nack(&*consumer, received, Duration::from_secs(2)).await?;
                    continue;
                }
                if name.starts_with('a')
                    && let Some(at) = delayed_at
                {
                    assert!(at.elapsed() >= Duration::from_secs(2), "{name} overtook a1");
                }
                order.push(name);
                ack(&*consumer, received).await?;
            }
            for key in ["a", "b"] {
                let of_key: Vec<_> = order.iter().filter(|name| name.starts_with(key)).collect();
                let wanted: Vec<_> = (0..4).map(|i| format!("{key}{i}")).collect();
                assert_eq!(of_key, wanted.iter().collect::<Vec<_>>());
            }
            Ok(())
        })
        .await
}
