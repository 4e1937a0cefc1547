//! Nacks with a delay that is longer than messages are held: a copy waits for its time.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use tokio::time::{Instant, sleep};
use towpath_core::{
    ErrorKind, Message, QueueSpec,
    driver::{self, Received},
};

use crate::{
    Outcome, ServerTest,
    closing::long_lease,
    crash,
    faults::Fault,
    server::{
        Server, TestQueue, ack, body, is_empty, nack, receive, receive_one, subscription, topic,
        unique, within,
    },
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    a_copy_comes_when_it_is_due_and_goes_on_where_the_message_stopped,
    a_copy_comes_when_it_is_due_after_its_consumer_was_dropped,
    a_copy_that_waits_for_long_is_copied_again_and_comes_once,
    a_copy_comes_when_it_is_due_after_its_process_was_killed,
    a_closed_consumer_gives_back_copies_that_are_not_due,
    copies_that_wait_do_not_keep_others_waiting,
    large_messages_that_wait_do_not_keep_others_waiting,
    copies_beyond_the_budget_come_once_and_on_time,
    where_order_is_kept_a_long_delay_is_refused,
    where_others_subscribe_a_long_delay_is_refused,
    a_copy_is_a_message_like_any_other_for_those_who_subscribe_later,
    a_delay_beyond_the_retention_is_refused,
    a_long_delay_is_confirmed_where_delivery_is_exactly_once,
];

/// On pstest only.
pub(crate) const FAILING: &[ServerTest] = tests![
    without_permission_to_publish_the_message_stays_with_its_consumer,
    when_the_ack_fails_after_the_copy_was_made_nothing_is_lost,
    a_copy_whose_answer_is_lost_duplicates_and_loses_nothing,
    a_copy_that_cannot_be_copied_again_is_held_on,
];

const SECOND: Duration = Duration::from_secs(1);

/// With a dead-letter policy, so that attempts are counted.
fn counted() -> QueueSpec {
    long_lease().with_dead_letter(unique(), 20)
}

/// With a short lease: what a server sends to a consumer that is being dropped comes again when its
/// lease is over.
fn dropping() -> QueueSpec {
    QueueSpec::new().with_lease(10 * SECOND)
}

/// Holds for a second only, so that longer delays take a copy.
fn short(queue: TestQueue) -> TestQueue {
    queue.with("nack_delay", "1s")
}

/// Nacks with a long delay, and returns when the message is due.
async fn postpone(
    consumer: &dyn driver::Consumer,
    received: Received,
    delay: Duration,
) -> Result<Instant, towpath_core::Error> {
    let due = Instant::now() + delay;
    nack(consumer, received, delay).await?;
    Ok(due)
}

/// Receives one message, which must be due.
async fn receive_due(consumer: &dyn driver::Consumer, due: Instant) -> Outcome<Received> {
    let received = receive_one(consumer).await?;
    let now = Instant::now();
    assert!(now >= due, "{:?} early", due - now);
    Ok(received)
}

async fn a_copy_comes_when_it_is_due_and_goes_on_where_the_message_stopped(
    server: Server,
) -> Outcome {
    server
        .with_queue(counted(), async |queue| {
            let queue = short(queue);
            let sent = Message::new("x").with_attribute("tenant", "acme");
            queue.send_all(std::slice::from_ref(&sent)).await?;
            let consumer = queue.consumer().await?;
            let first = receive_one(&*consumer).await?;
            let (id, sent_at) = (first.envelope.id.clone(), first.envelope.sent_at);
            assert_eq!(first.envelope.attempt, Some(1));
            let due = postpone(&*consumer, first, 4 * SECOND).await?;
            let second = receive_due(&*consumer, due).await?;
            let envelope = &second.envelope;
            assert_eq!(envelope.message, sent);
            assert_ne!(envelope.id, id);
            assert_eq!(envelope.attempt, Some(2));
            let since = |time: std::time::SystemTime| {
                time.duration_since(std::time::UNIX_EPOCH)
                    .map(|since| since.as_millis())
            };
            assert_eq!(
                envelope.sent_at.map(since).transpose()?,
                sent_at.map(since).transpose()?
            );
            // A short delay after a long one, and another long one: the count goes on.
            nack(&*consumer, second, Duration::ZERO).await?;
            let third = receive_one(&*consumer).await?;
            assert_eq!(third.envelope.attempt, Some(3));
            let due = postpone(&*consumer, third, 2 * SECOND).await?;
            let fourth = receive_due(&*consumer, due).await?;
            assert_eq!(fourth.envelope.attempt, Some(4));
            ack(&*consumer, fourth).await?;
            assert!(is_empty(&*consumer, 2 * SECOND).await?, "a duplicate");
            Ok(())
        })
        .await
}

async fn a_copy_comes_when_it_is_due_after_its_consumer_was_dropped(server: Server) -> Outcome {
    server
        .with_queue(dropping(), async |queue| {
            let queue = short(queue);
            let (consumer, received) = queue.receive_first().await?;
            let due = postpone(&*consumer, received, 4 * SECOND).await?;
            drop(consumer);
            let consumer = queue.consumer().await?;
            let received = receive_due(&*consumer, due).await?;
            assert_eq!(body(&received), "0");
            ack(&*consumer, received).await?;
            assert!(is_empty(&*consumer, 12 * SECOND).await?, "a duplicate");
            Ok(())
        })
        .await
}

async fn a_copy_that_waits_for_long_is_copied_again_and_comes_once(server: Server) -> Outcome {
    server
        .with_queue(counted(), async |queue| {
            let queue = short(queue);
            let (consumer, first) = queue.receive_first().await?;
            // A copy is held for 10 s.
            let due = postpone(&*consumer, first, 23 * SECOND).await?;
            let second = receive_due(&*consumer, due).await?;
            assert!(due.elapsed() < 5 * SECOND, "{:?} late", due.elapsed());
            assert_eq!(second.envelope.attempt, Some(2));
            ack(&*consumer, second).await?;
            assert!(is_empty(&*consumer, 2 * SECOND).await?, "a duplicate");
            Ok(())
        })
        .await
}

async fn a_copy_comes_when_it_is_due_after_its_process_was_killed(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let queue = short(queue);
            queue.send(0..1).await?;
            let delay = 15 * SECOND;
            let begun = Instant::now();
            let holder = crash::hold(&queue.config, delay).await?;
            // It has published the copy, and may hold that by now.
            holder.kill().await?;
            let consumer = queue.consumer().await?;
            let received = receive_due(&*consumer, begun + delay).await?;
            ack(&*consumer, received).await?;
            assert!(is_empty(&*consumer, 12 * SECOND).await?, "a duplicate");
            Ok(())
        })
        .await
}

async fn a_closed_consumer_gives_back_copies_that_are_not_due(server: Server) -> Outcome {
    server
        .with_queue(counted(), async |queue| {
            let queue = short(queue);
            let (closing, received) = queue.receive_first().await?;
            let due = postpone(&*closing, received, 10 * SECOND).await?;
            // The copy comes back to it, and is held there.
            assert!(is_empty(&*closing, SECOND).await?);
            within(15 * SECOND, "close", closing.close()).await??;
            let consumer = queue.consumer().await?;
            let received = receive_due(&*consumer, due).await?;
            assert!(due.elapsed() < 5 * SECOND, "{:?} late", due.elapsed());
            assert_eq!(received.envelope.attempt, Some(2));
            ack(&*consumer, received).await?;
            Ok(())
        })
        .await
}

async fn copies_that_wait_do_not_keep_others_waiting(server: Server) -> Outcome {
    server
        .with_queue(long_lease(), async |queue| {
            let queue = short(queue)
                .with("max_outstanding", "10")
                .with("max_held", "40");
            queue.send(0..40).await?;
            let consumer = queue.consumer().await?;
            let mut waiting = BTreeSet::new();
            while waiting.len() < 40 {
                for received in receive(&*consumer, 1).await? {
                    waiting.insert(body(&received));
                    postpone(&*consumer, received, 300 * SECOND).await?;
                }
            }
            // Every place is taken, when the last copy is here.
            let mut extra = 40;
            let error = loop {
                queue.send(extra..extra + 1).await?;
                let received = receive_one(&*consumer).await?;
                assert_eq!(body(&received), extra.to_string());
                extra += 1;
                let receipts = [received.receipt.clone()];
                let delayed = consumer.nack(&receipts, 300 * SECOND).await.remove(0);
                match delayed {
                    Ok(()) => assert!(extra < 60, "there is no end of places"),
                    Err(error) => {
                        consumer.ack(&receipts).await.remove(0)?;
                        break error;
                    }
                }
                sleep(SECOND / 10).await;
            };
            assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
            assert!(error.message().contains("max_held"), "{error}");
            assert!(
                error
                    .retry_after()
                    .is_some_and(|after| after <= 60 * SECOND)
            );
            queue.send(100..160).await?;
            let mut others = BTreeSet::new();
            while others.len() < 60 {
                let received = receive_one(&*consumer).await?;
                let number: usize = body(&received).parse()?;
                assert!((100..160).contains(&number), "{number} came early");
                others.insert(number);
                ack(&*consumer, received).await?;
            }
            Ok(())
        })
        .await
}

async fn large_messages_that_wait_do_not_keep_others_waiting(server: Server) -> Outcome {
    server
        .with_queue(long_lease(), async |queue| {
            let queue = queue.with("nack_delay", "60s");
            let consumer = queue.consumer().await?;
            let many = NonZeroUsize::new(50).expect("not zero");
            // One half is held, of the other half there are copies. Together they are many times
            // what one stream brings.
            for i in 0..10 {
                queue.send_all(&[vec![b'x'; 1_200_000].into()]).await?;
                let received = consumer.receive(many, 10 * SECOND).await?;
                assert_eq!(received.len(), 1);
                let delay = if i % 2 == 0 { 60 } else { 300 };
                for one in received {
                    nack(&*consumer, one, delay * SECOND).await?;
                }
            }
            queue.send(0..20).await?;
            let others = async {
                let mut came = BTreeSet::new();
                while came.len() < 20 {
                    for received in consumer.receive(many, SECOND).await? {
                        came.insert(body(&received));
                        ack(&*consumer, received).await?;
                    }
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            };
            within(20 * SECOND, "receiving", others).await?
        })
        .await
}

async fn copies_beyond_the_budget_come_once_and_on_time(server: Server) -> Outcome {
    server
        .with_queue(dropping(), async |queue| {
            let queue = short(queue);
            queue.send(0..12).await?;
            let consumer = queue.consumer().await?;
            let mut due = Instant::now();
            for received in receive(&*consumer, 12).await? {
                due = postpone(&*consumer, received, 12 * SECOND).await?;
            }
            drop(consumer);
            // This one may hold fewer than there are.
            let consumer = queue.with("max_held", "3").consumer().await?;
            let mut came = BTreeSet::new();
            while came.len() < 12 {
                // They were given their delays one after the other.
                let received = receive_due(&*consumer, due - 2 * SECOND).await?;
                assert!(came.insert(body(&received)), "a duplicate");
                ack(&*consumer, received).await?;
            }
            Ok(())
        })
        .await
}

async fn where_order_is_kept_a_long_delay_is_refused(server: Server) -> Outcome {
    server
        .with_queue(long_lease().with_ordering(), async |queue| {
            let queue = queue.with("nack_delay", "3s");
            let message = |text: &str| Message::new(text.to_owned()).with_ordering_key("k");
            queue.send_all(&[message("0"), message("1")]).await?;
            let consumer = queue.consumer().await?;
            assert_eq!(consumer.capabilities().limits.nack_delay, 3 * SECOND);
            let received = receive_one(&*consumer).await?;
            let receipts = [received.receipt.clone()];
            let error = consumer.nack(&receipts, 4 * SECOND).await.remove(0);
            let error = error.expect_err("too long");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains("ordered"), "{error}");
            assert!(error.message().contains("nack_delay"), "{error}");
            // It is still the caller's, and what fits is held with its place in the key.
            let due = Instant::now() + 3 * SECOND;
            consumer.nack(&receipts, 3 * SECOND).await.remove(0)?;
            for expected in ["0", "1"] {
                let received = receive_due(&*consumer, due).await?;
                assert_eq!(body(&received), expected);
                ack(&*consumer, received).await?;
            }
            Ok(())
        })
        .await
}

/// Another subscription of the queue's topic, by its short name.
async fn subscribe(server: &Server, name: &str) -> Outcome<String> {
    let other = format!("{name}-other");
    let subscriptions = server.subscriptions().await;
    subscriptions
        .create_subscription()
        .set_name(subscription(&other))
        .set_topic(topic(name))
        .set_ack_deadline_seconds(10)
        .send()
        .await?;
    Ok(other)
}

async fn unsubscribe(server: &Server, name: &str) -> Outcome {
    let subscriptions = server.subscriptions().await;
    let call = subscriptions.delete_subscription();
    Ok(call.set_subscription(subscription(name)).send().await?)
}

async fn where_others_subscribe_a_long_delay_is_refused(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(long_lease(), async |queue| {
            let queue = short(queue);
            let other = subscribe(&asked, queue.name()).await?;
            queue.send(0..1).await?;
            let consumer = queue.consumer().await?;
            assert_eq!(consumer.capabilities().limits.nack_delay, SECOND);
            let received = receive_one(&*consumer).await?;
            let receipts = [received.receipt.clone()];
            let error = consumer.nack(&receipts, 2 * SECOND).await.remove(0);
            let error = error.expect_err("others would get the copy");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains("only one of its topic"), "{error}");
            consumer.ack(&receipts).await.remove(0)?;
            unsubscribe(&asked, &other).await?;
            Ok(())
        })
        .await
}

async fn a_copy_is_a_message_like_any_other_for_those_who_subscribe_later(
    server: Server,
) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(long_lease(), async |queue| {
            let queue = short(queue);
            let sent = Message::new("x");
            queue.send_all(std::slice::from_ref(&sent)).await?;
            let consumer = queue.consumer().await?;
            let received = receive_one(&*consumer).await?;
            let other = subscribe(&asked, queue.name()).await?;
            // Longer than a copy is held.
            let due = postpone(&*consumer, received, 16 * SECOND).await?;
            let late = queue
                .clone()
                .with("subscription", &other)
                .consumer()
                .await?;
            let unasked = receive_one(&*late).await?;
            assert!(Instant::now() < due, "it does not wait there");
            assert_eq!(unasked.envelope.message, sent);
            ack(&*late, unasked).await?;
            late.close().await?;
            // A consumer that may not make copies waits for them all the same.
            consumer.close().await?;
            let consumer = queue.consumer().await?;
            assert_eq!(consumer.capabilities().limits.nack_delay, SECOND);
            let received = receive_due(&*consumer, due).await?;
            assert!(due.elapsed() < 5 * SECOND, "{:?} late", due.elapsed());
            assert_eq!(received.envelope.message, sent);
            ack(&*consumer, received).await?;
            unsubscribe(&asked, &other).await?;
            Ok(())
        })
        .await
}

async fn a_delay_beyond_the_retention_is_refused(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            queue.send(0..1).await?;
            let consumer = queue.consumer().await?;
            let longest = consumer.capabilities().limits.nack_delay;
            assert_eq!(longest, Duration::from_secs(7 * 86_400));
            let received = receive_one(&*consumer).await?;
            let receipts = [received.receipt.clone()];
            let beyond = longest + Duration::from_millis(1);
            let error = consumer.nack(&receipts, beyond).await.remove(0);
            let error = error.expect_err("too long");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains("7days"), "{error}");
            consumer.nack(&receipts, longest).await.remove(0)?;
            let again = consumer.nack(&receipts, longest).await.remove(0);
            assert_eq!(
                again.map_err(|error| error.kind()),
                Err(ErrorKind::LeaseLost)
            );
            // Not early either when the lease, which is 10 s, is over.
            assert!(is_empty(&*consumer, 12 * SECOND).await?);
            Ok(())
        })
        .await
}

async fn a_long_delay_is_confirmed_where_delivery_is_exactly_once(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new().with_exactly_once(), async |queue| {
            let queue = short(queue);
            queue.send(0..3).await?;
            let consumer = queue.consumer().await?;
            let mut due = Instant::now();
            for received in receive(&*consumer, 3).await? {
                due = postpone(&*consumer, received, 12 * SECOND).await?;
            }
            let mut came = BTreeSet::new();
            while came.len() < 3 {
                let received = receive_due(&*consumer, due - SECOND).await?;
                assert!(came.insert(body(&received)), "a duplicate");
                ack(&*consumer, received).await?;
            }
            // Longer than a lease.
            assert!(is_empty(&*consumer, 12 * SECOND).await?, "a duplicate");
            Ok(())
        })
        .await
}

async fn without_permission_to_publish_the_message_stays_with_its_consumer(
    server: Server,
) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(long_lease(), async |queue| {
            let queue = short(queue);
            queue.send(0..2).await?;
            let consumer = queue.consumer().await?;
            let fault = Fault::publish(queue.name(), "PERMISSION_DENIED");
            fault.times(2).ask(&asked).await?;
            let mut refused = Vec::new();
            for received in receive(&*consumer, 2).await? {
                let receipt = received.receipt.clone();
                let error = nack(&*consumer, received, 60 * SECOND).await;
                let error = error.expect_err("no permission");
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                assert!(
                    error.message().contains("roles/pubsub.publisher"),
                    "{error}"
                );
                assert!(!error.is_retryable(), "{error}");
                refused.push(receipt);
            }
            let none = consumer.receive(NonZeroUsize::MIN, 2 * SECOND).await?;
            assert!(none.is_empty(), "it is with its consumer");
            consumer.ack(&refused[..1]).await.remove(0)?;
            // Dropping the last receipt gives the other one back.
            drop(refused);
            let received = receive_one(&*consumer).await?;
            // Somebody gave the permission.
            let due = postpone(&*consumer, received, 2 * SECOND).await?;
            ack(&*consumer, receive_due(&*consumer, due).await?).await?;
            assert!(is_empty(&*consumer, SECOND).await?);
            Ok(())
        })
        .await
}

async fn when_the_ack_fails_after_the_copy_was_made_nothing_is_lost(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(QueueSpec::new().with_exactly_once(), async |queue| {
            let queue = short(queue);
            let (consumer, received) = queue.receive_first().await?;
            let fault = Fault::of("Acknowledge", queue.name(), "PERMISSION_DENIED");
            fault.ask(&asked).await?;
            let begun = Instant::now();
            let error = nack(&*consumer, received, 8 * SECOND).await;
            let error = error.expect_err("not acked");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            // The message comes again, and the copy when it is due.
            let again = receive_one(&*consumer).await?;
            let key = again.envelope.message.idempotency_key();
            ack(&*consumer, again).await?;
            let copy = receive_due(&*consumer, begun + 8 * SECOND).await?;
            assert_eq!(copy.envelope.message.idempotency_key(), key);
            ack(&*consumer, copy).await?;
            Ok(())
        })
        .await
}

async fn a_copy_whose_answer_is_lost_duplicates_and_loses_nothing(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(long_lease(), async |queue| {
            let queue = short(queue);
            let (consumer, received) = queue.receive_first().await?;
            let receipts = [received.receipt];
            let fault = Fault::publish(queue.name(), "UNAVAILABLE").applied();
            fault.ask(&asked).await?;
            let due = Instant::now() + 5 * SECOND;
            let error = consumer.nack(&receipts, 5 * SECOND).await.remove(0);
            let error = error.expect_err("no answer");
            assert!(error.is_retryable(), "{error}");
            consumer.nack(&receipts, 5 * SECOND).await.remove(0)?;
            for _ in 0..2 {
                let received = receive_due(&*consumer, due).await?;
                assert_eq!(body(&received), "0");
                ack(&*consumer, received).await?;
            }
            assert!(is_empty(&*consumer, SECOND).await?);
            Ok(())
        })
        .await
}

async fn a_copy_that_cannot_be_copied_again_is_held_on(server: Server) -> Outcome {
    let asked = server.clone();
    server
        .with_queue(counted(), async |queue| {
            let queue = short(queue);
            let (consumer, received) = queue.receive_first().await?;
            let due = postpone(&*consumer, received, 14 * SECOND).await?;
            let fault = Fault::publish(queue.name(), "PERMISSION_DENIED");
            fault.times(100).ask(&asked).await?;
            let received = receive_due(&*consumer, due).await?;
            assert!(due.elapsed() < 5 * SECOND, "{:?} late", due.elapsed());
            assert_eq!(received.envelope.attempt, Some(2));
            ack(&*consumer, received).await?;
            Ok(())
        })
        .await
}
