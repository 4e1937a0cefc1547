//! Streams that end: after their time, in passing failures, in lasting ones. On pstest.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use tokio::time::Instant;
use towpath_core::{ErrorKind, QueueSpec};

use crate::{
    Outcome, ServerTest,
    faults::{Fault, are_pending},
    server::{Server, ack, body, is_empty, receive_one},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    receiving_goes_on_when_streams_end_after_their_time,
    what_is_with_a_handler_survives_the_end_of_its_stream,
    passing_failures_to_open_a_stream_are_got_over,
    a_lasting_failure_is_told_and_got_over_when_it_ends,
];

async fn receiving_goes_on_when_streams_end_after_their_time(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let time = Duration::from_millis(700);
            let fault = Fault::of("StreamingPull", queue.name(), "UNAVAILABLE");
            fault.after(time).times(1_000).ask(&asked).await?;
            let consumer = queue.consumer().await?;
            let mut came = BTreeSet::new();
            for i in 0..12 {
                queue.send(i * 5..(i + 1) * 5).await?;
                while came.len() < (i + 1) * 5 {
                    let received = receive_one(&*consumer).await?;
                    came.insert(body(&received));
                    ack(&*consumer, received).await?;
                }
                // So that streams end between messages, and while messages come.
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Ok(())
        })
        .await
}

async fn what_is_with_a_handler_survives_the_end_of_its_stream(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let fault = Fault::of("StreamingPull", queue.name(), "UNAVAILABLE");
            fault.after(Duration::from_secs(2)).ask(&asked).await?;
            let (consumer, received) = queue.receive_first().await?;
            // Longer than the stream and the lease, which is 10 s; then it is acked all the same.
            assert!(is_empty(&*consumer, Duration::from_secs(14)).await?);
            assert!(!are_pending(&asked, queue.name()).await?, "nothing failed");
            ack(&*consumer, received).await?;
            assert!(is_empty(&*consumer, Duration::from_secs(12)).await?);
            Ok(())
        })
        .await
}

async fn passing_failures_to_open_a_stream_are_got_over(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new(), async |queue| {
            for code in ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"] {
                let fault = Fault::of("StreamingPull", queue.name(), code);
                fault.times(2).ask(&asked).await?;
                let consumer = queue.consumer().await?;
                queue.send(0..1).await?;
                let end = Instant::now() + Duration::from_secs(30);
                loop {
                    assert!(Instant::now() < end, "{code}: nothing comes any more");
                    // Some of them are told to the caller on the way.
                    let one = consumer.receive(NonZeroUsize::MIN, Duration::from_secs(1));
                    if let Ok(mut batch) = one.await
                        && let Some(received) = batch.pop()
                    {
                        ack(&*consumer, received).await?;
                        break;
                    }
                }
                assert!(
                    !are_pending(&asked, queue.name()).await?,
                    "{code}: nothing failed"
                );
                consumer.close().await?;
            }
            Ok(())
        })
        .await
}

async fn a_lasting_failure_is_told_and_got_over_when_it_ends(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let fault = Fault::of("StreamingPull", queue.name(), "PERMISSION_DENIED");
            fault.times(3).ask(&asked).await?;
            let consumer = queue.consumer().await?;
            let wait = Duration::from_secs(10);
            let told = consumer.receive(NonZeroUsize::MIN, wait).await;
            let error = told.expect_err("no permission");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            // Somebody gave the permission: the same consumer goes on.
            queue.send(0..1).await?;
            let end = Instant::now() + Duration::from_secs(30);
            loop {
                assert!(Instant::now() < end, "nothing comes any more");
                match consumer.receive(NonZeroUsize::MIN, wait).await {
                    Ok(mut batch) if !batch.is_empty() => {
                        ack(&*consumer, batch.remove(0)).await?;
                        return Ok(());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                    }
                }
            }
        })
        .await
}
