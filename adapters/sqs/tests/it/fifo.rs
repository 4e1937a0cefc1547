//! FIFO queues: message groups and deduplication.

use std::time::Duration;

use towpath_core::{ErrorKind, Message, QueueSpec};

use crate::{
    Outcome, ServerTest,
    proxy::Proxy,
    server::{Server, TestQueue, is_empty, receive},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    a_group_is_locked_while_one_of_its_messages_is_in_flight,
    messages_without_an_ordering_key_do_not_wait_for_each_other,
    a_message_that_is_received_and_sent_again_arrives_again,
    a_deduplication_id_is_accepted_once,
    a_send_whose_answer_was_lost_is_retried_as_one_message,
    a_late_ack_is_refused,
];

fn fifo() -> QueueSpec {
    QueueSpec::new().with_ordering()
}

async fn send(queue: &TestQueue, messages: &[Message]) -> Outcome {
    for result in queue.producer().await?.send(messages).await {
        result?;
    }
    Ok(())
}

async fn a_group_is_locked_while_one_of_its_messages_is_in_flight(server: Server) -> Outcome {
    server
        .with_queue(fifo(), async |queue| {
            let keyed = |body: &'static str, key: &str| Message::new(body).with_ordering_key(key);
            send(
                &queue,
                &[keyed("a1", "a"), keyed("a2", "a"), keyed("b1", "b")],
            )
            .await?;
            let consumer = queue.consumer().await?;
            let first = receive(&*consumer, 1).await?.remove(0);
            assert_eq!(first.envelope.message.body(), "a1");
            assert_eq!(first.envelope.message.ordering_key(), Some("a"));
            let second = receive(&*consumer, 1).await?.remove(0);
            assert_eq!(second.envelope.message.body(), "b1");
            assert!(is_empty(&*consumer, Duration::from_secs(1)).await?);
            consumer.ack(&[first.receipt]).await.remove(0)?;
            let third = receive(&*consumer, 1).await?.remove(0);
            assert_eq!(third.envelope.message.body(), "a2");
            Ok(())
        })
        .await
}

async fn messages_without_an_ordering_key_do_not_wait_for_each_other(server: Server) -> Outcome {
    server
        .with_queue(fifo(), async |queue| {
            send(&queue, &["1".into(), "2".into(), "3".into()]).await?;
            let consumer = queue.consumer().await?;
            for _ in 0..3 {
                let received = receive(&*consumer, 1).await?;
                assert_eq!(received.len(), 1);
                assert_eq!(received[0].envelope.message.ordering_key(), None);
            }
            Ok(())
        })
        .await
}

async fn a_message_that_is_received_and_sent_again_arrives_again(server: Server) -> Outcome {
    server
        .with_queue(fifo(), async |queue| {
            let producer = queue.producer().await?;
            let sent = Message::new("again").with_ordering_key("k");
            producer.send(std::slice::from_ref(&sent)).await.remove(0)?;
            let consumer = queue.consumer().await?;
            let first = receive(&*consumer, 1).await?.remove(0);
            producer.send(&[first.envelope.message]).await.remove(0)?;
            consumer.ack(&[first.receipt]).await.remove(0)?;
            let second = receive(&*consumer, 1).await?;
            assert_eq!(second.len(), 1, "the copy was swallowed");
            assert_eq!(
                second[0].envelope.message.idempotency_key(),
                sent.idempotency_key()
            );
            Ok(())
        })
        .await
}

async fn a_deduplication_id_is_accepted_once(server: Server) -> Outcome {
    server
        .with_queue(fifo(), async |queue| {
            let twin = |body: &'static str| Message::new(body).with_dedup_id("event-17");
            send(&queue, &[twin("first")]).await?;
            send(&queue, &[twin("second")]).await?;
            let consumer = queue.consumer().await?;
            let received = receive(&*consumer, 2).await?;
            assert_eq!(received.len(), 1);
            assert_eq!(received[0].envelope.message.body(), "first");
            Ok(())
        })
        .await
}

async fn a_send_whose_answer_was_lost_is_retried_as_one_message(server: Server) -> Outcome {
    let proxy = Proxy::start(&server).await?;
    let through = proxy.server.clone();
    through
        .with_queue(fifo(), async |queue| {
            let producer = queue.open()?.producer().await?;
            proxy.lose_answers("sendmessagebatch", 2);
            // The portable producer retries by itself.
            producer
                .send(Message::new("once").with_ordering_key("k"))
                .await?;
            assert_eq!(proxy.left_to_lose(), 0);
            assert_eq!(proxy.counts()["sendmessagebatch"], 3);
            let consumer = queue.consumer().await?;
            let received = receive(&*consumer, 1).await?;
            let receipts: Vec<_> = received.iter().map(|one| one.receipt.clone()).collect();
            consumer.ack(&receipts).await.remove(0)?;
            assert!(is_empty(&*consumer, Duration::from_secs(1)).await?);
            Ok(())
        })
        .await
}

async fn a_late_ack_is_refused(server: Server) -> Outcome {
    // fauxqs takes it as on a standard queue, and does nothing.
    // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html
    let is_told = server.name != "fauxqs";
    server
        .with_queue(fifo().with_lease(Duration::from_secs(1)), async |queue| {
            send(&queue, &["late".into()]).await?;
            let consumer = queue.consumer().await?;
            let first = receive(&*consumer, 1).await?.remove(0);
            // Back again when the lease is over, and acked by who has it now.
            let second = receive(&*consumer, 1).await?.remove(0);
            assert_eq!(second.envelope.attempt, Some(2));
            let late = consumer.ack(&[first.receipt]).await.remove(0);
            let expected = if is_told {
                Err(ErrorKind::LeaseLost)
            } else {
                Ok(())
            };
            assert_eq!(late.map_err(|error| error.kind()), expected);
            consumer.ack(&[second.receipt]).await.remove(0)?;
            Ok(())
        })
        .await
}
