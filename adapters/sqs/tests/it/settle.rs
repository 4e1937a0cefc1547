//! Leases and settlements.

use std::{num::NonZeroUsize, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName;
use towpath_core::{ErrorKind, Message, QueueSpec, driver::Receipt};

use crate::{
    Outcome, ServerTest,
    proxy::Proxy,
    server::{Server, is_empty, receive},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    the_lease_is_the_queue_s_own_or_the_option_s,
    a_changed_setting_does_not_shorten_a_lease,
    one_failed_settlement_does_not_fail_the_others,
    a_late_ack_of_a_standard_queue_is_only_submitted,
    a_delay_beyond_twelve_hours_is_refused,
    what_arrives_while_closing_is_visible_again_at_once,
];

fn lease(seconds: u64) -> QueueSpec {
    QueueSpec::new().with_lease(Duration::from_secs(seconds))
}

async fn the_lease_is_the_queue_s_own_or_the_option_s(server: Server) -> Outcome {
    server
        .with_queue(lease(2), async |queue| {
            queue.send("x").await?;
            let own = queue.consumer().await?;
            assert_eq!(
                own.capabilities().lease.duration(),
                Some(Duration::from_secs(2))
            );
            assert_eq!(receive(&*own, 1).await?.len(), 1);
            // Not before its end, and then again.
            assert!(is_empty(&*own, Duration::from_secs(1)).await?);
            let config = queue.config.clone().with_option("lease", "60s");
            let longer = towpath_core::driver::Backend::consumer(&queue.sqs, &config).await?;
            assert_eq!(
                longer.capabilities().lease.duration(),
                Some(Duration::from_secs(60))
            );
            assert_eq!(receive(&*longer, 1).await?.len(), 1);
            assert!(is_empty(&*own, Duration::from_secs(4)).await?);
            Ok(())
        })
        .await
}

async fn a_changed_setting_does_not_shorten_a_lease(server: Server) -> Outcome {
    server
        .with_queue(lease(30), async |queue| {
            let consumer = queue.consumer().await?;
            queue
                .set(QueueAttributeName::VisibilityTimeout, "1")
                .await?;
            queue.send("x").await?;
            assert_eq!(receive(&*consumer, 1).await?.len(), 1);
            assert!(is_empty(&*consumer, Duration::from_secs(3)).await?);
            Ok(())
        })
        .await
}

async fn one_failed_settlement_does_not_fail_the_others(server: Server) -> Outcome {
    server
        .with_queue(lease(30), async |queue| {
            let messages: Vec<_> = (0..10).map(|i| Message::new(format!("{i}"))).collect();
            for result in queue.producer().await?.send(&messages).await {
                result?;
            }
            let consumer = queue.consumer().await?;
            let received = receive(&*consumer, 10).await?;
            let mut receipts: Vec<_> = received.into_iter().map(|one| one.receipt).collect();
            consumer.ack(&receipts[2..3]).await.remove(0)?;
            receipts[7] = Receipt::token(1, 2);
            for result in [
                consumer.extend(&receipts, Duration::from_secs(30)).await,
                consumer.nack(&receipts, Duration::ZERO).await,
            ] {
                assert_eq!(result.len(), 10);
                for (i, result) in result.into_iter().enumerate() {
                    match i {
                        2 | 7 => assert_eq!(
                            result.map_err(|error| error.kind()),
                            Err(ErrorKind::LeaseLost),
                            "{i}"
                        ),
                        _ => result?,
                    }
                }
            }
            assert_eq!(receive(&*consumer, 8).await?.len(), 8);
            Ok(())
        })
        .await
}

async fn a_late_ack_of_a_standard_queue_is_only_submitted(server: Server) -> Outcome {
    let name = server.name;
    server
        .with_queue(lease(1), async |queue| {
            queue.send("x").await?;
            let consumer = queue.consumer().await?;
            let first = receive(&*consumer, 1).await?.remove(0);
            let second = receive(&*consumer, 1).await?.remove(0);
            let late = consumer.ack(&[first.receipt]).await.remove(0);
            if name == "elasticmq" {
                // AWS says success; this server tells.
                // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html
                assert_eq!(
                    late.map_err(|error| error.kind()),
                    Err(ErrorKind::LeaseLost)
                );
            } else {
                late?;
            }
            // Who has it now can still give it back.
            consumer
                .nack(&[second.receipt], Duration::ZERO)
                .await
                .remove(0)?;
            let third = receive(&*consumer, 1).await?.remove(0);
            assert_eq!(third.envelope.attempt, Some(3));
            Ok(())
        })
        .await
}

async fn a_delay_beyond_twelve_hours_is_refused(server: Server) -> Outcome {
    server
        .with_queue(lease(30), async |queue| {
            queue.send("x").await?;
            let consumer = queue.consumer().await?;
            let receipts = [receive(&*consumer, 1).await?.remove(0).receipt];
            let limit = consumer.capabilities().limits.nack_delay;
            let refused = consumer
                .nack(&receipts, Duration::from_secs(43_201))
                .await
                .remove(0);
            assert_eq!(
                refused.map_err(|error| error.kind()),
                Err(ErrorKind::Unsupported)
            );
            consumer.nack(&receipts, limit).await.remove(0)?;
            assert!(is_empty(&*consumer, Duration::from_secs(1)).await?);
            Ok(())
        })
        .await
}

async fn what_arrives_while_closing_is_visible_again_at_once(server: Server) -> Outcome {
    let proxy = Proxy::start(&server).await?;
    let through = proxy.server.clone();
    through
        .with_queue(lease(60), async |queue| {
            let closing = queue.consumer().await?;
            let waiting = tokio::spawn({
                let closing = closing.clone();
                async move {
                    closing
                        .receive(NonZeroUsize::MIN, Duration::from_secs(10))
                        .await
                }
            });
            proxy.seen("receivemessage").await;
            closing.close().await?;
            queue.send("x").await?;
            let ended = waiting.await?.map(drop);
            assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::Closed));
            let next = queue.consumer().await?;
            let received = receive(&*next, 1).await?;
            assert_eq!(received.len(), 1, "stranded");
            assert_eq!(received[0].envelope.attempt, Some(2));
            Ok(())
        })
        .await
}
