use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tower::ServiceBuilder;
use towpath_core::{FailureClass, Handler, Outcome};
use towpath_worker::{
    Backoff, HandlerService, ServiceHandler,
    layers::{CatchPanicLayer, DeadLetterLayer, RetryLayer, TimeoutLayer},
};

use crate::support::{Decide, SECOND, Setup, eventually, fixed, retry, start};

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_the_handler_and_is_a_failure() {
    let mut setup = Setup::new("memory://orders?dead_letter=dead").await;
    setup.send("x").await;
    let builder = setup.worker(|_| std::future::pending()).await;
    let builder = builder.layer(TimeoutLayer::new(30 * SECOND));
    let running = start(builder.retry(fixed(SECOND).max_attempts(2)));
    let attempt = setup.seen().await;
    attempt.cancellation().cancelled().await;
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.retried, report.dead_lettered), (1, 1));
    let dead = setup.dead().await;
    let failure = dead[0].envelope().message.failure().unwrap();
    assert_eq!(failure.reason, "timed out after 30s");
}

#[tokio::test(start_paused = true)]
async fn runs_in_place_are_one_attempt() {
    let mut setup = Setup::new("memory://orders").await;
    setup.send("x").await;
    let calls = Arc::new(AtomicUsize::new(0));
    let builder = setup
        .worker(move |_| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            async move {
                match call {
                    0..4 => retry("blip"),
                    4 => Outcome::Retry {
                        after: Some(60 * SECOND),
                        reason: "too long to wait for here".into(),
                    },
                    _ => Outcome::Ack,
                }
            }
        })
        .await;
    let layer = RetryLayer::new(3, Backoff::Fixed(SECOND));
    let running = start(builder.layer(layer).retry(fixed(10 * SECOND)));
    let begun = tokio::time::Instant::now();
    for (number, at) in [(1, 0), (1, 1), (1, 2), (2, 12), (2, 13), (3, 73)] {
        assert_eq!(setup.seen().await.number(), Some(number));
        assert_eq!(begun.elapsed(), at * SECOND);
    }
    let report = running.stop().await;
    assert_eq!((report.acked, report.retried), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn failures_that_no_retry_can_help_are_parked_at_once() {
    let mut setup = Setup::new("memory://orders?dead_letter=dead").await;
    setup.send("x").await;
    let builder = setup.worker(|_| async { retry("status 422") }).await;
    let layer = DeadLetterLayer::when(|attempt, reason| {
        assert_eq!(attempt.number(), Some(1));
        let class = FailureClass::Other("refused".into());
        reason.contains("422").then_some(class)
    });
    let running = start(builder.layer(layer));
    setup.seen().await;
    eventually(async || setup.depth().await.total() == 0).await;
    running.stop().await;
    let dead = setup.dead().await;
    let failure = dead[0].envelope().message.failure().unwrap();
    assert_eq!(failure.class, FailureClass::Other("refused".into()));
    assert_eq!(failure.reason, "status 422");
}

/// A stack without a worker, as Lambda runs it: the outermost layer sees outcomes, not panics.
#[tokio::test]
async fn a_stack_is_a_handler_and_panics_become_outcomes() {
    let handler = Decide(|attempt: towpath_core::Attempt| async move {
        assert!(attempt.number() != Some(1), "first");
        if attempt.number() == Some(2) {
            return Outcome::Ack;
        }
        std::panic::panic_any("third");
    });
    let stack = ServiceBuilder::new()
        .layer(DeadLetterLayer::after_attempts(3))
        .layer(CatchPanicLayer::new())
        .service(HandlerService::new(handler));
    let handler: Arc<dyn Handler> = Arc::new(ServiceHandler::new(stack));
    let attempt = |number| {
        let envelope = towpath_core::Envelope::new(1.into(), "x".into());
        towpath_core::Attempt::new(envelope.with_attempt(Some(number)), "orders")
    };
    assert_eq!(handler.handle(attempt(1)).await, retry("panicked: first"));
    assert_eq!(handler.handle(attempt(2)).await, Outcome::Ack);
    assert_eq!(
        handler.handle(attempt(3)).await,
        Outcome::DeadLetter {
            class: FailureClass::AttemptsExhausted,
            reason: "panicked: third".into()
        }
    );
}
