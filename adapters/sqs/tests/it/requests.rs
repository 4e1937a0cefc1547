//! How many requests messages cost.

use std::time::Duration;

use towpath_core::{Message, QueueSpec};

use crate::{Outcome, ServerTest, proxy::Proxy, server::Server, tests};

pub(crate) const TESTS: &[ServerTest] = tests![
    single_sends_and_acks_share_requests,
    a_held_lease_is_kept_by_shared_requests,
];

async fn single_sends_and_acks_share_requests(server: Server) -> Outcome {
    const COUNT: usize = 1_000;
    let proxy = Proxy::start(&server).await?;
    let through = proxy.server.clone();
    through
        .with_queue(QueueSpec::new(), async |queue| {
            let queue = queue.open()?;
            let producer = queue.producer().await?;
            let sends = (0..COUNT).map(|i| producer.send(Message::new(format!("{i}"))));
            for sent in futures::future::join_all(sends).await {
                sent?;
            }
            let consumer = queue.consumer().await?;
            let mut settled = Vec::new();
            while settled.len() < COUNT {
                let batch = consumer.receive_batch(100, Duration::from_secs(5)).await?;
                assert!(!batch.is_empty(), "{} of {COUNT}", settled.len());
                settled.extend(batch.into_iter().map(|d| tokio::spawn(d.ack())));
            }
            for acked in settled {
                acked.await??;
            }
            consumer.close().await?;
            let counts = proxy.counts();
            let of = |action: &str| counts.get(action).copied().unwrap_or(0);
            // A tenth each is the least that SQS allows.
            assert!(of("sendmessagebatch") <= COUNT / 10 + 5, "{counts:?}");
            assert!(of("deletemessagebatch") <= COUNT / 10 + 20, "{counts:?}");
            assert!(of("receivemessage") <= COUNT / 10 + 20, "{counts:?}");
            assert_eq!(of("sendmessage") + of("deletemessage"), 0, "{counts:?}");
            Ok(())
        })
        .await
}

async fn a_held_lease_is_kept_by_shared_requests(server: Server) -> Outcome {
    let proxy = Proxy::start(&server).await?;
    let through = proxy.server.clone();
    let spec = QueueSpec::new().with_lease(Duration::from_secs(2));
    through
        .with_queue(spec, async |queue| {
            let queue = queue.open()?;
            let messages: Vec<_> = (0..10).map(|i| Message::new(format!("{i}"))).collect();
            for sent in queue.producer().await?.send_batch(&messages).await {
                sent?;
            }
            let consumer = queue.consumer().await?;
            let mut held = Vec::new();
            while held.len() < 10 {
                held.extend(
                    consumer
                        .receive_batch(10 - held.len(), Duration::from_secs(5))
                        .await?,
                );
            }
            // Three leases long: without extensions they would all come again.
            let others = queue.consumer().await?;
            let again = others.receive_batch(10, Duration::from_secs(6)).await?;
            assert!(again.is_empty(), "{} came again", again.len());
            for delivery in held {
                assert!(!delivery.is_lease_lost());
                delivery.ack().await?;
            }
            let extensions = proxy.counts()["changemessagevisibilitybatch"];
            assert!((3..=40).contains(&extensions), "{extensions}");
            Ok(())
        })
        .await
}
