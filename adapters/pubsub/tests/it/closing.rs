//! What closing gives back, and what it still sends.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use towpath_core::{ErrorKind, QueueSpec};

use crate::{
    Outcome, ServerTest,
    server::{Server, ack, bodies, body, is_empty, nack, receive, receive_one, within},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    closing_gives_back_what_was_fetched_ahead,
    closing_sends_the_last_acks,
    a_message_with_its_handler_stays_there_when_the_consumer_closes,
    a_cancelled_receive_loses_nothing,
    closed_halves_refuse_every_call,
];

/// A lease that does not run out in the time of a test, so that what comes again was given back.
pub(crate) fn long_lease() -> QueueSpec {
    QueueSpec::new().with_lease(Duration::from_secs(600))
}

async fn closing_gives_back_what_was_fetched_ahead(server: Server) -> Outcome {
    server
        .with_queue(long_lease(), async |queue| {
            queue.send(0..10).await?;
            let closing = queue.consumer().await?;
            // It may fetch as many as are asked for.
            let many = NonZeroUsize::new(100).expect("not zero");
            let received = closing.receive(many, Duration::from_secs(10)).await?;
            assert!(!received.is_empty());
            queue.send(10..50).await?;
            // Nobody sees what comes in this time, which is shorter than streams stay open.
            tokio::time::sleep(Duration::from_millis(700)).await;
            for one in received {
                nack(&*closing, one, Duration::ZERO).await?;
            }
            within(Duration::from_secs(15), "close", closing.close()).await??;
            let consumer = queue.consumer().await?;
            let mut came = BTreeSet::new();
            while came.len() < 50 {
                came.extend(bodies(&receive(&*consumer, 1).await?));
            }
            Ok(())
        })
        .await
}

async fn closing_sends_the_last_acks(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            queue.send(0..50).await?;
            let closing = queue.consumer().await?;
            for received in receive(&*closing, 50).await? {
                ack(&*closing, received).await?;
            }
            closing.close().await?;
            // Longer than the lease, which is 10 s.
            let consumer = queue.consumer().await?;
            assert!(is_empty(&*consumer, Duration::from_secs(13)).await?);
            Ok(())
        })
        .await
}

async fn a_message_with_its_handler_stays_there_when_the_consumer_closes(
    server: Server,
) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let (closing, received) = queue.receive_first().await?;
            within(Duration::from_secs(15), "close", closing.close()).await??;
            let consumer = queue.consumer().await?;
            assert!(is_empty(&*consumer, Duration::from_secs(5)).await?);
            drop(received);
            receive_one(&*consumer).await?;
            Ok(())
        })
        .await
}

async fn a_cancelled_receive_loses_nothing(server: Server) -> Outcome {
    server
        .with_queue(long_lease(), async |queue| {
            let consumer = queue.consumer().await?;
            let sending = queue.clone();
            let sender = tokio::spawn(async move {
                for i in 0..10 {
                    sending.send(i * 10..(i + 1) * 10).await?;
                }
                Outcome::Ok(())
            });
            let mut came = BTreeSet::new();
            for round in 0.. {
                // Given up at moments that have nothing to do with arrivals.
                let patience = Duration::from_millis(1 + round % 37);
                let call = consumer.receive(NonZeroUsize::MIN, Duration::from_secs(10));
                if let Ok(batch) = tokio::time::timeout(patience, call).await {
                    for received in batch? {
                        assert!(came.insert(body(&received)), "twice");
                        ack(&*consumer, received).await?;
                    }
                }
                if came.len() == 100 {
                    break;
                }
            }
            sender.await??;
            Ok(())
        })
        .await
}

async fn closed_halves_refuse_every_call(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            queue.send(0..1).await?;
            let producer = queue.producer().await?;
            let consumer = queue.consumer().await?;
            let receipts = [receive_one(&*consumer).await?.receipt];
            for _ in 0..2 {
                producer.close().await?;
                consumer.close().await?;
            }
            let is_closed = |result: towpath_core::Result<()>| {
                assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::Closed));
            };
            is_closed(producer.send(&["x".into()]).await.remove(0).map(drop));
            let received = consumer.receive(NonZeroUsize::MIN, Duration::ZERO).await;
            is_closed(received.map(drop));
            is_closed(consumer.ack(&receipts).await.remove(0));
            is_closed(consumer.nack(&receipts, Duration::ZERO).await.remove(0));
            let extended = consumer.extend(&receipts, Duration::from_secs(10)).await;
            is_closed(extended.into_iter().next().expect("a result"));
            Ok(())
        })
        .await
}
