//! Sends: gathered, split, retried, in order.

use futures::future::join_all;
use tokio::time::Instant;
use towpath_core::{ErrorKind, Message};

use crate::script::{SECOND, Script, error, lock};

#[tokio::test(start_paused = true)]
async fn sends_at_the_same_time_share_requests() {
    let script = Script::new(|_| {});
    let producer = script.producer();
    let sends = (0..35).map(|i| producer.send(format!("m{i}")));
    for result in join_all(sends).await {
        result.unwrap();
    }
    let sizes: Vec<_> = script.sends().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 10, 5]);
}

#[tokio::test(start_paused = true)]
async fn batches_are_split_by_count_and_by_bytes() {
    let script = Script::new(|_| {});
    let producer = script.producer();
    let small: Vec<_> = (0..23).map(|i| Message::new(i.to_string())).collect();
    let large: Vec<_> = (0..4).map(|_| Message::new("x".repeat(400))).collect();
    for batch in [small, large] {
        for result in producer.send_batch(&batch).await {
            result.unwrap();
        }
    }
    let sizes: Vec<_> = script.sends().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 3, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn only_the_entries_that_may_succeed_are_sent_again() {
    let script = Script::new(|_| {});
    lock(&script.send_errors).extend([
        None,
        Some(error(ErrorKind::Throttled)),
        Some(error(ErrorKind::InvalidMessage)),
        Some(error(ErrorKind::Unavailable)),
    ]);
    let batch = ["a", "b", "c", "d"].map(Message::new);
    let results = script.producer().send_batch(&batch).await;
    let kinds: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().err().map(|error| error.kind()))
        .collect();
    assert_eq!(kinds, [None, None, Some(ErrorKind::InvalidMessage), None]);
    assert_eq!(script.sends(), [vec!["a", "b", "c", "d"], vec!["b", "d"]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_as_a_whole_is_sent_again_as_soon_as_one_message() {
    let script = Script::new(|_| {});
    lock(&script.send_errors).extend(vec![Some(error(ErrorKind::Unavailable)); 10]);
    let batch: Vec<_> = (0..10).map(|i| Message::new(i.to_string())).collect();
    let begun = Instant::now();
    for result in script.producer().send_batch(&batch).await {
        result.unwrap();
    }
    assert!(begun.elapsed() < SECOND / 4, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_retry_never_overtakes_a_later_message_of_its_key() {
    let script = Script::new(|_| {});
    lock(&script.send_errors).extend([Some(error(ErrorKind::Throttled)), None]);
    let batch = ["first", "second"].map(|body| Message::new(body).with_ordering_key("k"));
    let results = script.producer().send_batch(&batch).await;
    assert_eq!(
        results[0].as_ref().unwrap_err().kind(),
        ErrorKind::Throttled
    );
    assert!(results[1].is_ok());
    assert_eq!(
        script.sends().len(),
        1,
        "the first is not sent after the second"
    );
}

#[tokio::test(start_paused = true)]
async fn close_sends_what_waits_first() {
    let script = Script::new(|_| {});
    let producer = script.producer();
    let sending = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send("late").await }
    });
    tokio::task::yield_now().await;
    producer.close().await.unwrap();
    sending.await.unwrap().unwrap();
    assert_eq!(script.sends(), [["late"]]);
    let refused = producer.send("after").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
}
