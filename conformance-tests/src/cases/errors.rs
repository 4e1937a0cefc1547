//! Failures: of the right kind, and retryable or not.

use std::{num::NonZeroUsize, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use towpath_core::{
    Error, ErrorKind, Message,
    driver::{Receipt, Received},
};

use crate::{
    Case, CaseError, CaseResult, Context, Need, TestQueue,
    context::{numbered, text},
    ensure, ensure_eq,
};

pub(super) const CASES: &[Case] = &[
    case!(
        Errors,
        a_missing_queue_is_not_found,
        [],
        "Sending to, receiving from and inspecting a queue that does not exist is NotFound."
    ),
    case!(
        Errors,
        a_queue_deleted_meanwhile_is_not_found,
        [],
        "A consumer whose queue is deleted is told, instead of seeing an empty queue for ever."
    ),
    case!(
        Errors,
        a_closed_producer_refuses,
        [],
        "After close, a driver's send is Closed for each entry; closing twice is fine."
    ),
    case!(
        Errors,
        a_closed_consumer_refuses,
        [],
        "After close, a driver's receive and settlements are Closed; closing twice is fine."
    ),
    case!(
        Errors,
        closing_ends_a_receive_that_waits,
        [],
        "A consumer that waits for a message ends with Closed when it is closed."
    ),
    case!(
        Errors,
        errors_name_backend_and_operation,
        [],
        "An error says which backend failed at what, and what is wrong."
    ),
    case!(
        Errors,
        an_unreachable_endpoint_is_told_and_retryable,
        [Unreachable],
        "Where nobody answers, a call ends in time with Unavailable or Timeout, for a retry."
    ),
    case!(
        Errors,
        refused_credentials_are_told_and_not_retryable,
        [Denied],
        "Credentials that are not accepted are Unauthenticated or PermissionDenied, for good."
    ),
    case!(
        Errors,
        receiving_goes_on_after_a_cut,
        [Cut],
        "A consumer whose connection is cut delivers what comes later, with no help."
    ),
    case!(
        Errors,
        sending_goes_on_after_a_cut,
        [Cut],
        "A producer whose connection is cut sends what comes later, with no help."
    ),
];

/// The error of opening a half or of the first call on it.
async fn send_error(queue: &TestQueue) -> Result<Error, CaseError> {
    let queue = queue.with_option("send_timeout", "2s")?;
    let producer = match queue.queue().producer().await {
        Ok(producer) => producer,
        Err(error) => return Ok(error),
    };
    match producer.send("x").await {
        Ok(_) => Err(CaseError::failed("the message was accepted")),
        Err(error) => Ok(error),
    }
}

async fn inspect_error(queue: &TestQueue) -> Result<Error, CaseError> {
    let inspected = match queue.queue().admin().await {
        Ok(admin) => admin.inspect().await,
        Err(error) => Err(error),
    };
    match inspected {
        Ok(info) => Err(CaseError::failed(format!("inspect found {info:?}"))),
        Err(error) => Ok(error),
    }
}

async fn receive_error(cx: &Context, queue: &TestQueue) -> Result<Error, CaseError> {
    let consumer = match queue.queue().consumer().await {
        Ok(consumer) => consumer,
        Err(error) => return Ok(error),
    };
    let deadline = Instant::now() + cx.patience();
    while Instant::now() < deadline {
        match timeout(cx.patience(), consumer.receive_batch(1, cx.slack())).await {
            Ok(Ok(received)) => ensure!(received.is_empty(), "a message was received"),
            Ok(Err(error)) => return Ok(error),
            Err(_) => break,
        }
    }
    Err(CaseError::failed(format!(
        "receiving looks like an empty queue for {:?}",
        cx.patience()
    )))
}

async fn a_missing_queue_is_not_found(cx: Context) -> CaseResult {
    let queue = cx.absent()?;
    for (operation, error) in [
        ("send", send_error(&queue).await?),
        ("receive", receive_error(&cx, &queue).await?),
        ("inspect", inspect_error(&queue).await?),
    ] {
        ensure_eq!(
            error.kind(),
            ErrorKind::NotFound,
            "the kind of the error of {operation}"
        );
        ensure!(
            !error.is_retryable(),
            "{operation} on a missing queue is said to be worth a retry"
        );
    }
    Ok(())
}

async fn a_queue_deleted_meanwhile_is_not_found(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    producer.send("x").await?;
    cx.receive(&consumer).await?.ack().await?;
    queue.admin().await?.delete().await?;
    let deadline = Instant::now() + cx.patience() * 2;
    loop {
        match timeout(cx.patience(), consumer.receive_batch(1, cx.slack())).await {
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Ok(Err(error)) if error.is_retryable() && Instant::now() < deadline => {
                sleep(cx.slack() / 4).await;
            }
            Ok(Ok(received)) if received.is_empty() && Instant::now() < deadline => {}
            other => {
                return Err(CaseError::failed(format!(
                    "receiving from a deleted queue ends in {other:?}, and not_found is right"
                )));
            }
        }
    }
}

fn is_closed<T>(result: &towpath_core::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::Closed)
}

async fn a_closed_producer_refuses(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let driver = queue.driver_producer().await?;
    driver.close().await?;
    driver.close().await?;
    let results = driver.send(&numbered("m", 2)).await;
    ensure_eq!(results.len(), 2, "the number of results");
    ensure!(
        results.iter().all(is_closed),
        "sending after close is {results:?}"
    );
    // The portable producer too, and other handles go on.
    let producer = queue.producer().await?;
    producer.close().await?;
    ensure!(
        is_closed(&producer.send("x").await),
        "a closed producer sent a message"
    );
    queue.producer().await?.send("x").await?;
    Ok(())
}

async fn a_closed_consumer_refuses(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let driver = queue.driver_consumer().await?;
    queue.producer().await?.send("x").await?;
    let held = cx.receive_raw(&*driver).await?;
    driver.close().await?;
    driver.close().await?;
    let received = driver.receive(NonZeroUsize::MIN, Duration::ZERO).await;
    ensure!(
        is_closed(&received),
        "receiving after close is {:?}",
        received.map(|received| received.len())
    );
    let receipts = [held.receipt];
    for (operation, results) in [
        ("ack", driver.ack(&receipts).await),
        ("nack", driver.nack(&receipts, Duration::ZERO).await),
    ] {
        ensure!(
            results.len() == 1 && results.iter().all(is_closed),
            "{operation} after close is {results:?}"
        );
    }
    Ok(())
}

async fn closing_ends_a_receive_that_waits(cx: Context) -> CaseResult {
    let consumer = cx.queue().await?.consumer().await?;
    let waiting = async {
        match timeout(cx.patience(), consumer.receive()).await {
            Ok(result) => Ok(result.map(drop)),
            Err(_) => Err(CaseError::failed("receive goes on waiting after close")),
        }
    };
    let closing = async {
        sleep(cx.slack()).await;
        match timeout(cx.patience(), consumer.close()).await {
            Ok(closed) => Ok(closed?),
            Err(_) => Err(CaseError::failed("close does not end")),
        }
    };
    let (received, ()) = tokio::try_join!(waiting, closing)?;
    ensure!(
        is_closed(&received),
        "a receive that was waiting ended in {received:?}"
    );
    Ok(())
}

async fn errors_name_backend_and_operation(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let scheme = queue.queue().backend().scheme();
    let closed = queue.driver_consumer().await?;
    closed.close().await?;
    let absent = cx.absent()?;
    let inspected = absent.admin().await?.inspect().await.map(drop);
    let received = closed.receive(NonZeroUsize::MIN, Duration::ZERO).await;
    for (operation, result) in [
        ("inspect", inspected),
        ("receive", received.map(drop::<Vec<Received>>)),
    ] {
        let Err(error) = result else {
            return Err(CaseError::failed(format!("{operation} succeeded")));
        };
        ensure_eq!(error.backend(), Some(scheme), "the backend of {error}");
        ensure_eq!(error.operation(), Some(operation), "the operation");
        ensure!(
            error.message().len() >= 10,
            "{:?} does not say what is wrong",
            error.message()
        );
    }
    let results = closed.ack(&[Receipt::new("foreign")]).await;
    ensure!(
        results.iter().all(Result::is_err),
        "a closed consumer acked"
    );
    Ok(())
}

async fn an_unreachable_endpoint_is_told_and_retryable(cx: Context) -> CaseResult {
    let name = cx.fresh_name();
    let Some(config) = cx.harness().unreachable(&name) else {
        return Err(CaseError::ignored(format!("needs {}", Need::Unreachable)));
    };
    let queue = cx.handle(config, cx.harness().spec())?;
    let limit = Duration::from_secs(60);
    for operation in ["inspect", "send"] {
        let failing = async {
            match operation {
                "inspect" => inspect_error(&queue).await,
                _ => send_error(&queue).await,
            }
        };
        let Ok(error) = timeout(limit, failing).await else {
            return Err(CaseError::failed(format!(
                "{operation} does not end within {limit:?}"
            )));
        };
        let error = error?;
        ensure!(
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
            "{operation} is {error}, and unavailable or timeout is right"
        );
        ensure!(
            error.is_retryable(),
            "{operation} is said not to be worth a retry: {error}"
        );
    }
    Ok(())
}

async fn refused_credentials_are_told_and_not_retryable(cx: Context) -> CaseResult {
    let name = cx.fresh_name();
    let Some(config) = cx.harness().denied(&name) else {
        return Err(CaseError::ignored(format!("needs {}", Need::Denied)));
    };
    let queue = cx.handle(config, cx.harness().spec())?;
    for (operation, error) in [
        ("inspect", inspect_error(&queue).await?),
        ("send", send_error(&queue).await?),
    ] {
        ensure!(
            matches!(
                error.kind(),
                ErrorKind::Unauthenticated | ErrorKind::PermissionDenied
            ),
            "{operation} is {error}, and unauthenticated or permission_denied is right"
        );
        ensure!(
            !error.is_retryable(),
            "{operation} is said to be worth a retry: {error}"
        );
    }
    Ok(())
}

/// A queue that exists, by a connection that can be cut. What is on its way on a connection that is
/// cut comes back when its lease runs out, so the lease is short.
async fn cuttable(cx: &Context) -> Result<(TestQueue, TestQueue), CaseError> {
    let direct = cx.short_queue().await?;
    let config = match cx.harness().cuttable(direct.queue().config()).await {
        Ok(config) => config,
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return Err(CaseError::ignored(error.message()));
        }
        Err(error) => return Err(error.into()),
    };
    let fragile = cx.handle(config, direct.spec().clone())?;
    Ok((direct, fragile))
}

async fn receiving_goes_on_after_a_cut(cx: Context) -> CaseResult {
    let (direct, fragile) = cuttable(&cx).await?;
    let producer = direct.producer().await?;
    let consumer = fragile.consumer().await?;
    producer.send("before").await?;
    cx.receive(&consumer).await?.ack().await?;
    let limit = cx.patience() * 2 + cx.lease() * 3;
    for round in 0..3 {
        let waiting = async {
            let deadline = Instant::now() + limit;
            loop {
                match consumer.receive().await {
                    Ok(delivery) => return Ok(delivery),
                    Err(error) if error.is_retryable() && Instant::now() < deadline => {
                        sleep(cx.slack() / 10).await;
                    }
                    Err(error) => return Err(CaseError::from(error)),
                }
            }
        };
        let cutting = async {
            sleep(cx.slack() / 2).await;
            cx.harness().cut(fragile.queue().config()).await?;
            producer.send(format!("after-{round}")).await?;
            Ok::<_, CaseError>(())
        };
        let Ok(both) = timeout(limit, async { tokio::try_join!(waiting, cutting) }).await else {
            return Err(CaseError::failed(format!(
                "nothing was received within {limit:?} after the connection was cut"
            )));
        };
        let (delivery, ()) = both?;
        ensure_eq!(text(&delivery), format!("after-{round}"), "the body");
        delivery.ack().await?;
    }
    Ok(())
}

async fn sending_goes_on_after_a_cut(cx: Context) -> CaseResult {
    let (direct, fragile) = cuttable(&cx).await?;
    let producer = fragile.producer().await?;
    let consumer = direct.consumer().await?;
    for round in 0..3 {
        producer.send(format!("before-{round}")).await?;
        cx.harness().cut(fragile.queue().config()).await?;
        // Told as an error after all retries, or sent; a send in vain is repeated by its caller.
        let message = Message::new(format!("after-{round}"));
        let deadline = Instant::now() + cx.patience() * 2;
        while let Err(error) = producer.send(message.clone()).await {
            ensure!(
                error.is_retryable() && Instant::now() < deadline,
                "sending after a cut ends in {error}"
            );
            sleep(cx.slack() / 10).await;
        }
    }
    let mut bodies = std::collections::BTreeSet::new();
    while bodies.len() < 6 {
        // A message whose answer was lost may come twice.
        let delivery = cx.receive(&consumer).await?;
        bodies.insert(text(&delivery));
        delivery.ack().await?;
    }
    Ok(())
}
