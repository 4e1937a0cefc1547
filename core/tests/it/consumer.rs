//! Receiving and settling: nothing lost, nothing stranded.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use towpath_core::ErrorKind;

use crate::script::{Call, LEASE, SECOND, Script, error, lock};

#[tokio::test(start_paused = true)]
async fn a_cancelled_receive_leaves_its_message_to_the_next() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let cancelled = timeout(Duration::from_millis(3), consumer.receive()).await;
    assert!(cancelled.is_err());
    sleep(SECOND).await;
    let delivery = consumer.receive().await.unwrap();
    assert_eq!(delivery.body(), "1");
    assert!(script.nacked().is_empty());
    delivery.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_released() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(5);
    script.make_ready(1..=6);
    let first = consumer.receive().await.unwrap();
    sleep(LEASE * 2).await;
    assert_eq!(script.nacked(), [2, 3, 4, 5, 6]);
    first.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_released_is_not_fetched_again_by_the_same_consumer() {
    let script = Script::new(|_| {});
    *lock(&script.gives_again) = true;
    let consumer = script.consumer(20);
    script.make_ready(1..=6);
    let first = consumer.receive().await.unwrap();
    sleep(LEASE * 3).await;
    assert_eq!(script.nacked(), [2, 3, 4, 5, 6], "each was released once");
    first.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_close_gives_back_what_it_brings() {
    let script = Script::new(|_| {});
    *lock(&script.gives_again) = true;
    let consumer = script.consumer(20);
    script.make_ready(1..=4);
    let first = consumer.receive().await.unwrap();
    first.ack().await.unwrap();
    sleep(SECOND).await;
    consumer.close().await.unwrap();
    sleep(LEASE).await;
    let calls = script.calls();
    let last_nack = calls
        .iter()
        .rposition(|call| matches!(call, Call::Nack(..)));
    let close = calls.iter().position(|call| *call == Call::Close);
    assert!(last_nack.unwrap() < close.unwrap(), "{calls:?}");
    for number in 2..=4 {
        assert!(script.nacked().contains(&number), "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn receiving_heals_after_errors() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    lock(&script.receive_errors)
        .extend([error(ErrorKind::Unavailable), error(ErrorKind::Unavailable)]);
    script.make_ready([1]);
    for _ in 0..2 {
        let error = consumer.receive().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(consumer.receive().await.unwrap().body(), "1");
}

#[tokio::test(start_paused = true)]
async fn acks_share_requests_and_each_has_its_own_fate() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready(0..10);
    let deliveries = consumer.receive_batch(10, SECOND).await.unwrap();
    assert_eq!(deliveries.len(), 10);
    lock(&script.ack_errors).extend([None, Some(error(ErrorKind::LeaseLost))]);
    let acks = futures::future::join_all(deliveries.into_iter().map(|d| d.ack())).await;
    assert_eq!(script.acks(), [(0..10).collect::<Vec<_>>()]);
    let lost = acks[1].as_ref().unwrap_err();
    assert_eq!(lost.error.kind(), ErrorKind::LeaseLost);
    assert!(lost.delivery.is_none());
    assert_eq!(acks.iter().filter(|ack| ack.is_ok()).count(), 9);
}

#[tokio::test(start_paused = true)]
async fn an_ack_is_tried_again_while_its_lease_holds() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let delivery = consumer.receive().await.unwrap();
    lock(&script.ack_errors).extend([
        Some(error(ErrorKind::Throttled)),
        Some(error(ErrorKind::Timeout)),
    ]);
    delivery.ack().await.unwrap();
    assert_eq!(script.acks().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn acks_that_fail_as_a_whole_are_tried_again_as_soon_as_one() {
    let script = Script::new(|_| {});
    script.make_ready(0..10);
    let consumer = script.consumer(0);
    let deliveries = consumer.receive_batch(10, SECOND).await.unwrap();
    lock(&script.ack_errors).extend(vec![Some(error(ErrorKind::Unavailable)); 10]);
    let begun = Instant::now();
    for acked in consumer.ack_batch(deliveries).await {
        acked.unwrap();
    }
    assert!(begun.elapsed() < SECOND / 4, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn close_finishes_the_acks_that_were_begun() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let delivery = consumer.receive().await.unwrap();
    *lock(&script.ack_takes) = SECOND;
    let ack = tokio::spawn(delivery.ack());
    tokio::task::yield_now().await;
    consumer.close().await.unwrap();
    ack.await.unwrap().unwrap();
    let calls = script.calls();
    let acked = calls.iter().position(|call| matches!(call, Call::Ack(_)));
    let closed = calls.iter().position(|call| *call == Call::Close);
    assert!(acked.unwrap() < closed.unwrap(), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn acks_that_fill_a_request_wait_for_no_company() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(2);
    script.make_ready(0..12);
    let single = consumer.receive().await.unwrap();
    let mut deliveries = Vec::new();
    while deliveries.len() < 11 {
        let most = 11 - deliveries.len();
        deliveries.extend(consumer.receive_batch(most, SECOND).await.unwrap());
    }
    let last = deliveries.pop().unwrap();
    let gathered = tokio::spawn(single.ack());
    tokio::task::yield_now().await;
    let begun = Instant::now();
    for acked in consumer.ack_batch(deliveries).await {
        acked.unwrap();
    }
    assert!(begun.elapsed().is_zero(), "{:?}", begun.elapsed());
    assert_eq!(script.acks(), [(1..11).collect::<Vec<_>>()]);
    last.ack().await.unwrap();
    gathered.await.unwrap().unwrap();
    assert_eq!(script.acks()[1], [0, 11]);
}

#[tokio::test(start_paused = true)]
async fn close_finishes_a_batch_of_acks_whose_caller_went_away() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready(0..10);
    let deliveries = consumer.receive_batch(10, SECOND).await.unwrap();
    *lock(&script.ack_takes) = SECOND;
    let acks = consumer.ack_batch(deliveries);
    assert!(timeout(SECOND / 2, acks).await.is_err());
    let begun = Instant::now();
    consumer.close().await.unwrap();
    assert_eq!(begun.elapsed(), SECOND / 2);
    assert_eq!(script.nacked(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_one_caller_leaves_of_an_answer_goes_to_the_next() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let consumer = consumer.clone();
            tokio::spawn(async move { consumer.receive_batch(3, 20 * SECOND).await })
        })
        .collect();
    sleep(SECOND).await;
    let begun = Instant::now();
    script.make_ready(0..10);
    let mut counts = Vec::new();
    for caller in callers {
        counts.push(caller.await.unwrap().unwrap().len());
    }
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    counts.sort_unstable();
    assert_eq!(counts, [1, 3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_delivery_is_released() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([7]);
    drop(consumer.receive().await.unwrap());
    sleep(SECOND).await;
    assert_eq!(script.nacked(), [7]);
}
