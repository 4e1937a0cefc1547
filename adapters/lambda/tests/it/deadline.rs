//! The end of the time of an invocation.

use std::time::Duration;

use tokio::time::Instant;
use towpath_lambda::SqsFunction;

use crate::invocation::{Scripted, event, failures, grouped, invoke_with, record};

#[tokio::test(start_paused = true)]
async fn what_is_not_done_shortly_before_the_deadline_is_returned() {
    let handler = Scripted::default();
    let function = SqsFunction::builder(handler.clone())
        .concurrency(3)
        .margin(Duration::from_secs(2))
        .build()
        .unwrap();
    let event = event([
        record("a", "ok"),
        record("b", "hang"),
        record("c", "until cancelled"),
        record("d", "hang"),
        record("e", "ok"),
    ]);
    let begun = Instant::now();
    let response = invoke_with(&function, event, Duration::from_secs(30))
        .await
        .unwrap();
    // `c` ended well when it was cancelled; `e` never had a place, and is not begun then.
    assert_eq!(response, failures(&["b", "d", "e"]));
    assert_eq!(handler.attempts().len(), 4);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(28) && took < Duration::from_secs(30),
        "{took:?}"
    );
    assert!(
        handler
            .attempts()
            .iter()
            .all(|attempt| attempt.cancellation().is_cancelled())
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_when_there_is_no_time() {
    let handler = Scripted::default();
    let function = SqsFunction::new(handler.clone());
    let batch = event([record("a", "ok"), record("b", "ok")]);
    let response = invoke_with(&function, batch, Duration::from_millis(500))
        .await
        .unwrap();
    assert_eq!(response, failures(&["a", "b"]));
    assert!(handler.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_group_is_not_gone_on_with_after_the_deadline() {
    let handler = Scripted::default();
    let function = SqsFunction::new(handler.clone());
    let batch = event([
        grouped("1", "g", "until cancelled"),
        grouped("2", "g", "ok"),
    ]);
    let response = invoke_with(&function, batch, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(response, failures(&["2"]));
    assert_eq!(handler.attempts().len(), 1);
}
