//! What is reported as failed, and only that.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures::future::BoxFuture;
use towpath_core::{Attempt, ErrorKind, Failure, Handler, Outcome};
use towpath_lambda::SqsFunction;

use crate::invocation::{Scripted, event, failures, invoke, record};

#[tokio::test]
async fn only_what_failed_is_reported() {
    let function = SqsFunction::new(Scripted::default());
    let event = event([
        record("a", "ok"),
        record("b", "retry"),
        record("c", "ok"),
        record("d", "release"),
        record("e", "panic"),
        record("f", "ok"),
    ]);
    let response = invoke(&function, event).await.unwrap();
    assert_eq!(response, failures(&["b", "d", "e"]));
}

/// Panics before there is a future.
struct Eager;

impl Handler for Eager {
    fn handle<'a: 'b, 'b>(&'a self, attempt: Attempt) -> BoxFuture<'b, Outcome> {
        assert!(attempt.envelope().message.body() != "panic", "eager");
        Box::pin(async { Outcome::Ack })
    }
}

#[tokio::test]
async fn a_handler_that_panics_at_once_fails_its_message_only() {
    let function = SqsFunction::new(Eager);
    let event = event([record("a", "panic"), record("b", "ok")]);
    assert_eq!(invoke(&function, event).await.unwrap(), failures(&["a"]));
}

#[tokio::test(start_paused = true)]
async fn no_more_messages_are_handled_at_once_than_allowed() {
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (now, peak) = (now.clone(), peak.clone());
        move |_: Attempt| {
            let (now, peak) = (now.clone(), peak.clone());
            async move {
                peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                now.fetch_sub(1, SeqCst);
                Ok::<(), Failure>(())
            }
        }
    };
    let function = SqsFunction::builder(handler)
        .concurrency(3)
        .build()
        .unwrap();
    let records: Vec<_> = (0..10).map(|i| record(&i.to_string(), "x")).collect();
    assert_eq!(
        invoke(&function, event(records)).await.unwrap(),
        failures(&[])
    );
    assert_eq!(peak.load(SeqCst), 3);
}

#[tokio::test]
async fn whole_batches_fail_when_one_message_does() {
    let function = SqsFunction::builder(Scripted::default())
        .whole_batches()
        .build()
        .unwrap();
    let good = event([record("a", "ok")]);
    assert_eq!(invoke(&function, good).await.unwrap(), failures(&[]));
    let mixed = event([record("a", "ok"), record("b", "retry")]);
    let error = invoke(&function, mixed).await.unwrap_err().to_string();
    assert!(error.contains("1 of 2 messages failed"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let builder = || SqsFunction::builder(Scripted::default());
    for (builder, hint) in [
        (builder().concurrency(0), "concurrency"),
        (builder().max_attempts(0), "at least 1"),
        (builder().max_attempts(3), "dead_letter"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains(hint), "{error}");
    }
}
