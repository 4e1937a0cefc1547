//! What an ack says, on subscriptions of both kinds.

use std::time::Duration;

use towpath_core::{AckStatus, ErrorKind, Message, QueueSpec};

use crate::{
    Outcome, ServerTest,
    faults::{Fault, are_pending},
    server::{Server, TestQueue, ack, is_empty, receive, receive_one},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    acks_are_confirmed_where_delivery_is_exactly_once,
    acks_are_only_submitted_elsewhere,
    a_message_is_settled_once,
    a_held_message_is_not_handed_out_again,
];

/// On pstest only.
pub(crate) const FAILING: &[ServerTest] = tests![
    an_ack_that_is_not_confirmed_is_an_error,
    an_ack_whose_answer_is_late_is_waited_for,
    a_passing_failure_of_a_confirmed_ack_is_got_over,
];

fn exactly_once() -> QueueSpec {
    QueueSpec::new().with_exactly_once()
}

/// Receives a message through the portable types and acks it.
async fn ack_status(queue: &TestQueue) -> Outcome<AckStatus> {
    let queue = queue.open()?;
    queue.producer().await?.send(Message::new("x")).await?;
    let consumer = queue.consumer().await?;
    let claimed = consumer.capabilities().ack;
    let status = consumer.receive().await?.ack().await?;
    assert_eq!(status, claimed);
    consumer.close().await?;
    Ok(status)
}

async fn acks_are_confirmed_where_delivery_is_exactly_once(server: Server) -> Outcome {
    server
        .with_queue(exactly_once(), async |queue| {
            assert_eq!(ack_status(&queue).await?, AckStatus::Confirmed);
            // Settled for good, also after the time of a lease.
            let consumer = queue.consumer().await?;
            assert!(is_empty(&*consumer, Duration::from_secs(12)).await?);
            Ok(())
        })
        .await
}

async fn acks_are_only_submitted_elsewhere(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            assert_eq!(ack_status(&queue).await?, AckStatus::Submitted);
            Ok(())
        })
        .await
}

async fn a_message_is_settled_once(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let (consumer, received) = queue.receive_first().await?;
            ack(&*consumer, received.clone()).await?;
            let error = ack(&*consumer, received.clone()).await.expect_err("again");
            assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
            let other = queue.consumer().await?;
            let error = ack(&*other, received).await.expect_err("of another");
            assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
            Ok(())
        })
        .await
}

async fn a_held_message_is_not_handed_out_again(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let (consumer, received) = queue.receive_first().await?;
            // The lease is 10 s, and is extended.
            assert!(is_empty(&*consumer, Duration::from_secs(22)).await?);
            ack(&*consumer, received).await?;
            assert!(is_empty(&*consumer, Duration::from_secs(12)).await?);
            Ok(())
        })
        .await
}

async fn an_ack_that_is_not_confirmed_is_an_error(server: Server) -> Outcome {
    for (code, kind) in [
        ("PERMISSION_DENIED", ErrorKind::PermissionDenied),
        ("FAILED_PRECONDITION", ErrorKind::LeaseLost),
    ] {
        let asked = server.clone();
        server
            .clone()
            .with_queue(exactly_once(), async |queue| {
                let (consumer, received) = queue.receive_first().await?;
                let fault = Fault::of("Acknowledge", queue.name(), code);
                fault.times(100).ask(&asked).await?;
                let error = ack(&*consumer, received).await.expect_err(code);
                assert_eq!(error.kind(), kind, "{error}");
                assert!(!error.is_retryable(), "{error}");
                // It was not acked, so it comes again.
                receive_one(&*consumer).await?;
                Ok(())
            })
            .await?;
    }
    Ok(())
}

async fn an_ack_whose_answer_is_late_is_waited_for(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(exactly_once(), async |queue| {
            let (consumer, received) = queue.receive_first().await?;
            let late = Duration::from_secs(2);
            let fault = Fault::of("Acknowledge", queue.name(), "").late(late);
            fault.ask(&asked).await?;
            let begun = tokio::time::Instant::now();
            ack(&*consumer, received).await?;
            assert!(begun.elapsed() >= late, "confirmed before the server did");
            Ok(())
        })
        .await
}

async fn a_passing_failure_of_a_confirmed_ack_is_got_over(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(exactly_once(), async |queue| {
            queue.send(0..20).await?;
            let consumer = queue.consumer().await?;
            let receipts: Vec<_> = receive(&*consumer, 20)
                .await?
                .into_iter()
                .map(|received| received.receipt)
                .collect();
            let fault = Fault::of("Acknowledge", queue.name(), "UNAVAILABLE");
            fault.times(2).ask(&asked).await?;
            for result in consumer.ack(&receipts).await {
                result?;
            }
            assert!(!are_pending(&asked, queue.name()).await?, "nothing failed");
            assert!(is_empty(&*consumer, Duration::from_secs(12)).await?);
            Ok(())
        })
        .await
}
