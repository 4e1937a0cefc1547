//! What is refused beforehand, and what a failed publish leaves behind.

use std::time::Duration;

use google_cloud_pubsub::model::Topic;
use towpath_core::{ErrorKind, Message, QueueSpec};

use crate::{
    Outcome, ServerTest,
    faults::{Fault, are_pending},
    server::{Server, ack, bodies, body, receive, receive_one, topic, unique},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    what_breaks_a_limit_is_refused_and_its_neighbours_are_sent,
    a_topic_that_nobody_listens_to_is_refused,
    a_missing_topic_is_told,
];

/// On pstest only.
pub(crate) const FAILING: &[ServerTest] = tests![
    an_ordering_key_goes_on_after_a_failure,
    what_follows_a_failed_message_of_its_key_is_not_sent,
    one_bad_message_does_not_fail_its_neighbours,
    a_lost_answer_duplicates_and_loses_nothing,
    a_publish_without_an_answer_ends_in_its_time,
];

async fn what_breaks_a_limit_is_refused_and_its_neighbours_are_sent(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let plain = || Message::new("refused");
            let many = (0..100).fold(plain(), |message, i| {
                message.with_attribute(format!("name-{i}"), "value")
            });
            let bad = [
                (many, ErrorKind::InvalidMessage),
                (
                    plain().with_attribute("n".repeat(257), "value"),
                    ErrorKind::InvalidMessage,
                ),
                (
                    plain().with_attribute("name", "v".repeat(1_025)),
                    ErrorKind::InvalidMessage,
                ),
                (
                    plain().with_attribute("google", "value"),
                    ErrorKind::InvalidMessage,
                ),
                (
                    plain().with_attribute("towpath", "value"),
                    ErrorKind::InvalidMessage,
                ),
                (Message::new(vec![0; 10_000_000]), ErrorKind::TooLarge),
                (
                    plain().with_delay(Duration::from_secs(1)),
                    ErrorKind::Unsupported,
                ),
                (plain().with_dedup_id("id"), ErrorKind::Unsupported),
                (plain().with_ordering_key("key"), ErrorKind::Unsupported),
            ];
            let mut batch = vec![Message::new("first")];
            batch.extend(bad.iter().map(|(message, _)| message.clone()));
            batch.push(Message::new("last"));
            let mut results = queue.producer().await?.send(&batch).await;
            assert_eq!(results.len(), batch.len());
            results.remove(0)?;
            results.pop().expect("the last")?;
            for (result, (message, kind)) in results.into_iter().zip(&bad) {
                let error = result.expect_err("refused");
                assert_eq!(error.kind(), *kind, "{error} of {message:?}");
                assert!(!error.is_retryable(), "{error}");
            }
            let consumer = queue.consumer().await?;
            let mut came = bodies(&receive(&*consumer, 2).await?);
            came.sort();
            assert_eq!(came, ["first", "last"]);
            Ok(())
        })
        .await
}

async fn a_topic_that_nobody_listens_to_is_refused(server: Server) -> Outcome {
    let name = unique();
    let topics = server.topics().await;
    let created = topics.create_topic().set_name(topic(&name));
    let created: Topic = created.send().await?;
    let queue = towpath_pubsub::PubSub::new();
    let config = server.config(&name);
    let error = towpath_core::driver::Backend::producer(&queue, &config)
        .await
        .expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains("would be lost"), "{error}");
    // Another subscription than the URL's will do.
    let subscriptions = server.subscriptions().await;
    let other = crate::server::subscription(&format!("{name}-other"));
    let creation = subscriptions.create_subscription();
    creation
        .set_name(&other)
        .set_topic(&created.name)
        .set_ack_deadline_seconds(10)
        .send()
        .await?;
    towpath_core::driver::Backend::producer(&queue, &config).await?;
    let deletion = subscriptions.delete_subscription();
    deletion.set_subscription(&other).send().await?;
    let deletion = topics.delete_topic();
    deletion.set_topic(&created.name).send().await?;
    Ok(())
}

async fn a_missing_topic_is_told(server: Server) -> Outcome {
    let config = server.config(&unique());
    let queue = towpath_pubsub::PubSub::new();
    let producer = towpath_core::driver::Backend::producer(&queue, &config).await;
    let consumer = towpath_core::driver::Backend::consumer(&queue, &config).await;
    for error in [
        producer.map(drop).expect_err("no topic"),
        consumer.map(drop).expect_err("no subscription"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.message().contains("does not exist"), "{error}");
    }
    Ok(())
}

fn of_key(key: &str, i: usize) -> Message {
    Message::new(format!("{key}{i}")).with_ordering_key(key)
}

async fn an_ordering_key_goes_on_after_a_failure(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new().with_ordering(), async |queue| {
            let producer = queue.producer().await?;
            for (i, code) in ["UNAVAILABLE", "PERMISSION_DENIED"].into_iter().enumerate() {
                Fault::publish(queue.name(), code).ask(&asked).await?;
                let error = producer.send(&[of_key("a", i)]).await.remove(0);
                error.expect_err(code);
                // The client library would refuse the key for ever.
                producer.send(&[of_key("a", i)]).await.remove(0)?;
            }
            let consumer = queue.consumer().await?;
            for wanted in ["a0", "a1"] {
                let received = receive_one(&*consumer).await?;
                assert_eq!(body(&received), wanted);
                ack(&*consumer, received).await?;
            }
            Ok(())
        })
        .await
}

async fn what_follows_a_failed_message_of_its_key_is_not_sent(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new().with_ordering(), async |queue| {
            let queue = queue.with("batch_messages", "1");
            let producer = queue.producer().await?;
            // One request per message: only that of the first fails.
            Fault::publish(queue.name(), "UNAVAILABLE")
                .ask(&asked)
                .await?;
            let batch: Vec<_> = (0..4).map(|i| of_key("a", i)).collect();
            for result in producer.send(&batch).await {
                let error = result.expect_err("not in its turn");
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.is_retryable(), "{error}");
            }
            for result in producer.send(&batch).await {
                result?;
            }
            let consumer = queue.consumer().await?;
            for i in 0..4 {
                let received = receive_one(&*consumer).await?;
                assert_eq!(body(&received), format!("a{i}"));
                ack(&*consumer, received).await?;
            }
            Ok(())
        })
        .await
}

async fn one_bad_message_does_not_fail_its_neighbours(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new(), async |queue| {
            // What a schema does not like: Pub/Sub refuses the whole request, and then the one
            // message. Each of the messages is tried alone, and one of them fails again.
            let fault = Fault::publish(queue.name(), "INVALID_ARGUMENT");
            fault.times(2).ask(&asked).await?;
            let batch: Vec<Message> = (0..5).map(|i| i.to_string().into()).collect();
            let results = queue.producer().await?.send(&batch).await;
            let failed: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
            assert_eq!(failed.len(), 1, "{failed:?}");
            assert_eq!(failed[0].kind(), ErrorKind::InvalidMessage);
            assert!(!failed[0].is_retryable());
            let consumer = queue.consumer().await?;
            assert_eq!(receive(&*consumer, 4).await?.len(), 4);
            Ok(())
        })
        .await
}

async fn a_lost_answer_duplicates_and_loses_nothing(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let portable = queue.open()?;
            let producer = portable.producer().await?;
            let fault = Fault::publish(queue.name(), "UNAVAILABLE");
            fault.applied().ask(&asked).await?;
            let message = Message::new("once");
            producer.send(message.clone()).await?;
            assert!(!are_pending(&asked, queue.name()).await?, "nothing failed");
            let consumer = queue.consumer().await?;
            for received in receive(&*consumer, 2).await? {
                let came = received.envelope.message;
                assert_eq!(came.idempotency_key(), message.idempotency_key());
            }
            Ok(())
        })
        .await
}

async fn a_publish_without_an_answer_ends_in_its_time(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let queue = queue.with("request_timeout", "1s");
            let producer = queue.producer().await?;
            let fault = Fault::publish(queue.name(), "").late(Duration::from_secs(5));
            fault.ask(&asked).await?;
            let batch = ["x".into()];
            let call = producer.send(&batch);
            let results = crate::server::within(Duration::from_secs(10), "send", call).await?;
            let error = results
                .into_iter()
                .next()
                .expect("a result")
                .expect_err("late");
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.is_retryable(), "{error}");
            // Its neighbours are not held up.
            producer.send(&["y".into()]).await.remove(0)?;
            Ok(())
        })
        .await
}
