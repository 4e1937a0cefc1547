//! A server that is away, silent, or away for a while.

use std::{num::NonZeroUsize, time::Duration};

use tokio::{net::TcpListener, time::Instant};
use towpath_core::{EnsureMode, Error, ErrorKind, QueueSpec, driver::Backend as _};
use towpath_pubsub::PubSub;

use crate::{
    Outcome, ServerTest,
    proxy::{Mode, Proxy},
    server::{Server, TestQueue, ack, receive, receive_one, within},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    nothing_opens_where_nothing_listens,
    nothing_opens_where_nobody_answers,
    every_call_ends_while_nothing_listens,
    every_call_ends_while_nobody_answers,
    a_waiting_consumer_is_told_of_an_outage_and_gets_over_it,
    cut_connections_are_made_anew,
    a_half_dead_connection_is_got_over,
];

/// How long one request may take in these tests.
const REQUEST: Duration = Duration::from_secs(1);
/// How long a call may take that makes some requests.
const CALL: Duration = Duration::from_secs(15);

fn hurried(queue: TestQueue) -> TestQueue {
    queue
        .with("request_timeout", "1s")
        .with("health_interval", "1s")
}

fn assert_away(what: &str, error: &Error) {
    assert!(
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{what}: {error}"
    );
    assert!(error.is_retryable(), "{what}: {error}");
}

/// Opening any half, and all calls of the administrating one, end in an error.
async fn nothing_opens(server: &Server, endpoint: &str) -> Outcome {
    let config = server
        .config("orders")
        .with_option("endpoint", endpoint)
        .with_option("request_timeout", "1s");
    let pubsub = PubSub::new();
    let producer = within(CALL, "producer", pubsub.producer(&config)).await?;
    assert_away("producer", &producer.expect_err("nobody is there"));
    let consumer = within(CALL, "consumer", pubsub.consumer(&config)).await?;
    assert_away("consumer", &consumer.expect_err("nobody is there"));
    let admin = within(CALL, "admin", pubsub.admin(&config)).await??;
    let spec = QueueSpec::new();
    let ensured = within(CALL, "ensure", admin.ensure(&spec, EnsureMode::Create)).await?;
    assert_away("ensure", &ensured.expect_err("nobody is there"));
    let inspected = within(CALL, "inspect", admin.inspect()).await?;
    assert_away("inspect", &inspected.expect_err("nobody is there"));
    let purged = within(CALL, "purge", admin.purge()).await?;
    assert_away("purge", &purged.expect_err("nobody is there"));
    let deleted = within(CALL, "delete", admin.delete()).await?;
    assert_away("delete", &deleted.expect_err("nobody is there"));
    Ok(())
}

async fn nothing_opens_where_nothing_listens(server: Server) -> Outcome {
    // The port was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    drop(listener);
    nothing_opens(&server, &endpoint).await
}

async fn nothing_opens_where_nobody_answers(server: Server) -> Outcome {
    let proxy = Proxy::start(&server.endpoint).await?;
    proxy.set(Mode::Silent).await;
    nothing_opens(&server, &proxy.endpoint).await
}

/// With halves that were opened before, every call ends in its time; afterwards all is well again.
async fn every_call_ends(server: Server, mode: Mode) -> Outcome {
    let proxy = Proxy::start(&server.endpoint).await?;
    server
        .with_queue(QueueSpec::new(), async |queue| {
            queue.send(0..3).await?;
            let queue = hurried(queue.through(&proxy.endpoint));
            let producer = queue.producer().await?;
            let consumer = queue.consumer().await?;
            let admin = queue.admin().await?;
            let mut received = receive(&*consumer, 3).await?;
            proxy.set(mode).await;
            for result in within(CALL, "send", producer.send(&["x".into()])).await? {
                assert_away("send", &result.expect_err("nobody is there"));
            }
            let inspected = within(CALL, "inspect", admin.inspect()).await?;
            assert_away("inspect", &inspected.expect_err("nobody is there"));
            // A look does not wait, and says nothing of the service.
            let look = consumer.receive(NonZeroUsize::MIN, Duration::ZERO);
            let _ = within(CALL, "look", look).await?;
            let error = until_told(&*consumer).await?;
            assert_away("receive", &error);
            // Unconfirmed: these say that they are submitted.
            let receipt = received.pop().expect("a message").receipt;
            within(CALL, "ack", consumer.ack(&[receipt])).await?;
            let receipt = received.pop().expect("a message").receipt;
            within(CALL, "nack", consumer.nack(&[receipt], Duration::ZERO)).await?;
            proxy.set(Mode::Open).await;
            // The client library may have to find out first that its connection is dead.
            let end = Instant::now() + Duration::from_secs(40);
            while let Err(error) = producer.send(&["y".into()]).await.remove(0) {
                assert_away("send", &error);
                assert!(Instant::now() < end, "{error}");
            }
            let mut came = false;
            while !came {
                assert!(Instant::now() < end, "nothing comes any more");
                if let Ok(batch) = consumer.receive(NonZeroUsize::MIN, REQUEST).await {
                    came = batch.iter().any(|one| one.envelope.message.body() == "y");
                    for received in batch {
                        let _ = ack(&*consumer, received).await;
                    }
                }
            }
            within(CALL, "close", producer.close()).await??;
            let _ = within(CALL, "close", consumer.close()).await?;
            Ok(())
        })
        .await
}

async fn every_call_ends_while_nothing_listens(server: Server) -> Outcome {
    every_call_ends(server, Mode::Down).await
}

async fn every_call_ends_while_nobody_answers(server: Server) -> Outcome {
    every_call_ends(server, Mode::Silent).await
}

/// What a consumer is told in an outage. What came before it is given back.
async fn until_told(consumer: &dyn towpath_core::driver::Consumer) -> Outcome<Error> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match within(
            CALL,
            "receive",
            consumer.receive(NonZeroUsize::MIN, REQUEST * 3),
        )
        .await?
        {
            Err(error) => return Ok(error),
            Ok(batch) => drop(batch),
        }
        if Instant::now() > end {
            return Err("an outage looks like an empty queue".into());
        }
    }
}

async fn a_waiting_consumer_is_told_of_an_outage_and_gets_over_it(server: Server) -> Outcome {
    let proxy = Proxy::start(&server.endpoint).await?;
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let behind = hurried(queue.clone().through(&proxy.endpoint));
            let consumer = behind.consumer().await?;
            queue.send(0..1).await?;
            let received = receive_one(&*consumer).await?;
            ack(&*consumer, received).await?;
            proxy.set(Mode::Down).await;
            let told = until_told(&*consumer).await?;
            assert_away("receive", &told);
            // Sent to the server while the consumer cannot reach it.
            queue.send(1..21).await?;
            proxy.set(Mode::Open).await;
            let mut came = std::collections::BTreeSet::new();
            let end = Instant::now() + Duration::from_secs(40);
            while came.len() < 20 {
                assert!(Instant::now() < end, "{} of 20 came", came.len());
                // Errors may be told until the connection is there again.
                let Ok(batch) = consumer.receive(NonZeroUsize::MIN, REQUEST).await else {
                    continue;
                };
                for received in batch {
                    came.insert(crate::server::body(&received));
                    ack(&*consumer, received).await?;
                }
            }
            Ok(())
        })
        .await
}

async fn cut_connections_are_made_anew(server: Server) -> Outcome {
    let proxy = Proxy::start(&server.endpoint).await?;
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let queue = queue.through(&proxy.endpoint).open()?;
            let producer = queue.producer().await?;
            let consumer = queue.consumer().await?;
            for i in 0..5 {
                producer.send(format!("{i}")).await?;
                // A message that was acked just before a cut may come again.
                loop {
                    let delivery = consumer.receive().await?;
                    let is_new = *delivery.body() == format!("{i}");
                    delivery.ack().await?;
                    if is_new {
                        break;
                    }
                }
                proxy.cut();
            }
            Ok(())
        })
        .await
}

async fn a_half_dead_connection_is_got_over(server: Server) -> Outcome {
    let proxy = Proxy::start(&server.endpoint).await?;
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let behind = hurried(queue.clone().through(&proxy.endpoint));
            let consumer = behind.consumer().await?;
            queue.send(0..1).await?;
            let received = receive_one(&*consumer).await?;
            ack(&*consumer, received).await?;
            proxy.set(Mode::Silent).await;
            assert_away("receive", &until_told(&*consumer).await?);
            queue.send(1..2).await?;
            proxy.set(Mode::Open).await;
            let end = Instant::now() + Duration::from_secs(40);
            loop {
                assert!(Instant::now() < end, "nothing comes any more");
                if let Ok(batch) = consumer.receive(NonZeroUsize::MIN, REQUEST).await
                    && batch.iter().any(|one| one.envelope.message.body() == "1")
                {
                    return Ok(());
                }
            }
        })
        .await
}
