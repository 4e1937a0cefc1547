use std::time::Duration;

use towpath_core::{Consumer, Delivery, ErrorKind, Message, Producer, Queue, Registry};
use towpath_memory::{Faults, MemoryBackend};
use towpath_worker::transfer::{Transfer, Transferred};

use crate::driver::StubbornDriver;
use crate::support::SECOND;

fn open(backend: &MemoryBackend, url: &str) -> Queue {
    Registry::new().with(backend.clone()).open(url).unwrap()
}

async fn send(queue: &Queue, body: &'static str) {
    let producer = queue.producer().await.unwrap();
    producer.send(body).await.unwrap();
}

async fn copies(consumer: &Consumer, wait: Duration) -> Vec<(Delivery, Message)> {
    let batch = consumer.receive_batch(100, wait).await.unwrap();
    let copy = |delivery: Delivery| {
        let message = delivery.envelope().message.clone();
        (delivery, message)
    };
    batch.into_iter().map(copy).collect()
}

async fn total(queue: &Queue) -> u64 {
    queue.admin().await.unwrap().depth().await.unwrap().total()
}

#[tokio::test(start_paused = true)]
async fn what_comes_twice_in_one_batch_is_sent_once_and_removed() {
    let backend = MemoryBackend::new();
    // Acks are submitted there, so both have one id.
    let from = open(&backend, "memory://from?profile=sqs&faults=duplicate:1");
    let to = open(&backend, "memory://to");
    send(&from, "x").await;
    let (consumer, producer) = (from.consumer().await.unwrap(), to.producer().await.unwrap());
    let batch = copies(&consumer, SECOND).await;
    assert_eq!(batch.len(), 2);
    let mut transfer = Transfer::new(consumer);
    let fates = transfer.send(&producer, batch).await;
    assert!(
        matches!(fates[..], [Transferred::Moved, Transferred::CameAgain]),
        "{fates:?}"
    );
    assert_eq!(
        transfer.in_hand(),
        1,
        "the second is kept away until the end"
    );
    let corrections = transfer.finish().await;
    assert!(corrections.is_empty(), "{corrections:?}");
    assert_eq!((total(&from).await, total(&to).await), (0, 1));
}

/// A send that takes a second, and an ack that never ends.
#[tokio::test(start_paused = true)]
async fn what_was_dropped_half_way_is_not_sent_again() {
    for dropped_after in [SECOND / 2, 2 * SECOND] {
        let slow = Faults::new().with_slow_send(SECOND, 1.0);
        let backend = MemoryBackend::with_faults(slow, 1).unwrap();
        let (from, to) = (
            open(&backend, "memory://from"),
            open(&backend, "memory://to"),
        );
        send(&from, "x").await;
        let driver = StubbornDriver::of(&backend, &from).await;
        driver.acks.close_gate();
        let (consumer, producer): (_, Producer) = (driver.consumer(), to.producer().await.unwrap());
        let mut transfer = Transfer::new(consumer.clone());
        let batch = copies(&consumer, SECOND).await;
        let sending = transfer.send(&producer, batch);
        assert!(tokio::time::timeout(dropped_after, sending).await.is_err());
        driver.acks.open_gate();
        let batch = copies(&consumer, 120 * SECOND).await;
        assert_eq!(batch.len(), 1, "it came again");
        assert!(transfer.came_again(&batch[0].0));
        let fates = transfer.send(&producer, batch).await;
        assert!(matches!(fates[..], [Transferred::CameAgain]), "{fates:?}");
        transfer.finish().await;
        let is_sent = u64::from(dropped_after > SECOND);
        assert_eq!(total(&to).await, is_sent);
        assert_eq!(total(&from).await, 1 - is_sent, "removed where it was sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_receive_is_tried_again_and_five_in_a_row_end_it() {
    for (rate, is_received) in [(0.4, true), (1.0, false)] {
        let failing = Faults::new().with_receive_error(rate);
        let backend = MemoryBackend::with_faults(failing, 3).unwrap();
        let from = open(&backend, "memory://from");
        for body in ["a", "b", "c", "d", "e", "f"] {
            send(&from, body).await;
        }
        let mut transfer = Transfer::new(from.consumer().await.unwrap());
        let mut received = 0;
        let ended = loop {
            match transfer.receive(1, SECOND).await {
                Ok(batch) if batch.is_empty() => break Ok(()),
                Ok(batch) => {
                    received += batch.len();
                    batch
                        .into_iter()
                        .for_each(|delivery| transfer.hold(delivery));
                }
                Err(error) => break Err(error.kind()),
            }
        };
        if is_received {
            assert_eq!((ended, received), (Ok(()), 6));
        } else {
            assert_eq!((ended, received), (Err(ErrorKind::Unavailable), 0));
        }
    }
}
