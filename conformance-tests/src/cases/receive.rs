//! Waiting, waking, sharing.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    Case, CaseError, CaseResult, Context,
    context::{numbered, text},
    ensure, ensure_eq,
};

pub(super) const CASES: &[Case] = &[
    case!(
        Receive,
        an_empty_queue_answers_when_the_wait_is_over,
        [],
        "A driver's receive on an empty queue waits as long as asked, and is no error."
    ),
    case!(
        Receive,
        a_look_at_an_empty_queue_does_not_wait,
        [],
        "With a wait of zero, receive returns at once."
    ),
    case!(
        Receive,
        a_message_that_is_there_comes_at_once,
        [],
        "The wait is for an empty queue only."
    ),
    case!(
        Receive,
        a_waiting_consumer_wakes_for_a_new_message,
        [],
        "A message that is sent while somebody waits is delivered at once."
    ),
    case!(
        Receive,
        a_waiting_consumer_wakes_for_a_nacked_message,
        [],
        "A message that is given back while somebody waits is delivered at once."
    ),
    case!(
        Receive,
        no_more_comes_than_was_asked_for,
        [],
        "A driver's receive never returns more than the caller has room for."
    ),
    case!(
        Receive,
        a_cancelled_receive_loses_nothing,
        [],
        "Dropping the future of a receive at any time neither loses nor strands a message."
    ),
    case!(
        Receive,
        competing_consumers_share_without_overlap,
        [],
        "Each message is held by one consumer, and all messages by one of them."
    ),
    case!(
        Receive,
        a_held_message_does_not_hold_up_others,
        [],
        "While one message is being handled, the others are delivered."
    ),
    case!(
        Receive,
        what_is_fetched_ahead_is_delivered,
        [],
        "With prefetch, each message is delivered once, and none stays behind."
    ),
    case!(
        Receive,
        a_closing_consumer_gives_back_what_it_fetched_ahead,
        [],
        "What nobody has seen is there for other consumers at once."
    ),
];

async fn an_empty_queue_answers_when_the_wait_is_over(cx: Context) -> CaseResult {
    let driver = cx.queue().await?.driver_consumer().await?;
    let wait = cx.delay().min(driver.capabilities().limits.wait);
    let begun = Instant::now();
    let limit = wait + cx.slack() * 2;
    let received = match timeout(limit, driver.receive(NonZeroUsize::MIN, wait)).await {
        Ok(received) => received?,
        Err(_) => {
            return Err(CaseError::failed(format!(
                "it waits for longer than {limit:?}, and {wait:?} was asked for"
            )));
        }
    };
    let elapsed = begun.elapsed();
    ensure!(received.is_empty(), "a message came out of an empty queue");
    ensure!(
        elapsed + cx.timing().early() >= wait,
        "it waited for {elapsed:?}, and {wait:?} was asked for"
    );
    driver.close().await?;
    Ok(())
}

async fn a_look_at_an_empty_queue_does_not_wait(cx: Context) -> CaseResult {
    let consumer = cx.queue().await?.consumer().await?;
    let limit = cx.slack() * 2;
    match timeout(limit, consumer.receive_batch(1, Duration::ZERO)).await {
        Ok(received) => ensure!(received?.is_empty(), "a message came out of an empty queue"),
        Err(_) => return Err(CaseError::failed(format!("it took longer than {limit:?}"))),
    }
    Ok(())
}

async fn a_message_that_is_there_comes_at_once(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    producer.send("x").await?;
    let begun = Instant::now();
    let received = consumer.receive_batch(1, cx.patience()).await?;
    ensure_eq!(received.len(), 1, "the number of messages");
    let elapsed = begun.elapsed();
    ensure!(
        elapsed <= cx.slack() * 2,
        "it came after {elapsed:?}, though it was there"
    );
    Ok(())
}

async fn a_waiting_consumer_wakes_for_a_new_message(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let waiting = async {
        let delivery = cx
            .receive_within(&consumer, cx.patience() + cx.delay())
            .await?;
        Ok::<_, CaseError>((text(&delivery), Instant::now()))
    };
    let sending = async {
        sleep(cx.delay()).await;
        producer.send("x").await?;
        Ok::<_, CaseError>(Instant::now())
    };
    let ((body, received), sent) = tokio::try_join!(waiting, sending)?;
    ensure_eq!(body, "x", "the body");
    let late = received.saturating_duration_since(sent);
    ensure!(
        late <= cx.slack() * 2,
        "it was delivered {late:?} after it was sent, though a consumer was waiting"
    );
    Ok(())
}

async fn a_waiting_consumer_wakes_for_a_nacked_message(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, first) = queue.halves().await?;
    let second = queue.consumer().await?;
    producer.send("x").await?;
    let held = cx.receive(&first).await?;
    let waiting = async {
        let delivery = cx
            .receive_within(&second, cx.patience() + cx.delay())
            .await?;
        Ok::<_, CaseError>((text(&delivery), Instant::now()))
    };
    let giving_back = async {
        sleep(cx.delay()).await;
        held.nack(Duration::ZERO).await?;
        Ok::<_, CaseError>(Instant::now())
    };
    let ((body, received), given_back) = tokio::try_join!(waiting, giving_back)?;
    ensure_eq!(body, "x", "the body");
    let late = received.saturating_duration_since(given_back);
    ensure!(
        late <= cx.slack() * 2,
        "it was delivered {late:?} after it was given back, though a consumer was waiting"
    );
    Ok(())
}

async fn no_more_comes_than_was_asked_for(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let driver = queue.driver_consumer().await?;
    for result in queue.producer().await?.send_batch(&numbered("m", 10)).await {
        result?;
    }
    let three = NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN);
    let mut bodies = BTreeSet::new();
    let deadline = Instant::now() + cx.patience();
    while bodies.len() < 10 {
        ensure!(
            Instant::now() < deadline,
            "{} of 10 messages came in time",
            bodies.len()
        );
        let received = driver.receive(three, cx.slack()).await?;
        ensure!(
            received.len() <= 3,
            "{} messages came, and 3 were asked for",
            received.len()
        );
        for one in received {
            bodies.insert(one.envelope.message.body().clone());
        }
    }
    driver.close().await?;
    Ok(())
}

async fn a_cancelled_receive_loses_nothing(cx: Context) -> CaseResult {
    const ROUNDS: u64 = 16;
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let mut deliveries = Vec::new();
    for round in 0..ROUNDS {
        producer.send(format!("m-{round}")).await?;
        // From "dropped as soon as it was made" to "dropped while the answer is on its way".
        let limit = Duration::from_millis(round * 2);
        if let Ok(delivery) = timeout(limit, consumer.receive()).await {
            deliveries.push(delivery?);
        }
    }
    let missing = ROUNDS as usize - deliveries.len();
    deliveries.extend(cx.receive_many(&consumer, missing).await?);
    let bodies: BTreeSet<_> = deliveries.iter().map(text).collect();
    ensure_eq!(bodies.len(), ROUNDS as usize, "the number of messages");
    Ok(())
}

async fn competing_consumers_share_without_overlap(cx: Context) -> CaseResult {
    const MESSAGES: usize = 24;
    let queue = cx.queue().await?;
    for result in queue
        .producer()
        .await?
        .send_batch(&numbered("m", MESSAGES))
        .await
    {
        result?;
    }
    let held = AtomicUsize::new(0);
    let deadline = Instant::now() + cx.patience();
    let consume = |queue: crate::TestQueue| {
        let (cx, held) = (cx.clone(), &held);
        async move {
            let consumer = queue.consumer().await?;
            let mut mine = Vec::new();
            while held.load(Ordering::Relaxed) < MESSAGES && Instant::now() < deadline {
                let received = consumer.receive_batch(2, cx.slack()).await?;
                held.fetch_add(received.len(), Ordering::Relaxed);
                mine.extend(received);
                // The others get their turn.
                sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, CaseError>((consumer, mine))
        }
    };
    let (first, second, third) = tokio::try_join!(
        consume(queue.clone()),
        consume(queue.clone()),
        consume(queue.clone())
    )?;
    let mut bodies = BTreeSet::new();
    let all = [&first, &second, &third].map(|(_, mine)| mine);
    for delivery in all.into_iter().flatten() {
        ensure!(
            bodies.insert(text(delivery)),
            "{:?} is held by two consumers at once",
            text(delivery)
        );
    }
    ensure_eq!(bodies.len(), MESSAGES, "the number of messages held");
    let why = "all messages are held by others";
    cx.nothing(&first.0, cx.slack(), why).await
}

async fn a_held_message_does_not_hold_up_others(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    producer.send("slow").await?;
    let slow = cx.receive(&consumer).await?;
    for message in numbered("quick", 5) {
        producer.send(message).await?;
    }
    let mut bodies = BTreeSet::new();
    for _ in 0..5 {
        let delivery = cx.receive(&consumer).await?;
        bodies.insert(text(&delivery));
        delivery.ack().await?;
    }
    ensure_eq!(bodies.len(), 5, "the number of messages");
    ensure!(!slow.is_lease_lost(), "the lease of the slow one was lost");
    slow.ack().await?;
    Ok(())
}

async fn what_is_fetched_ahead_is_delivered(cx: Context) -> CaseResult {
    const MESSAGES: usize = 25;
    let queue = cx.queue().await?.with_option("prefetch", "10")?;
    let (producer, consumer) = queue.halves().await?;
    for result in producer.send_batch(&numbered("m", MESSAGES)).await {
        result?;
    }
    let mut bodies = BTreeSet::new();
    for _ in 0..MESSAGES {
        let delivery = cx.receive(&consumer).await?;
        ensure!(
            bodies.insert(text(&delivery)),
            "{:?} was delivered twice",
            text(&delivery)
        );
        delivery.ack().await?;
    }
    let why = "all messages were acked";
    cx.nothing(&consumer, cx.slack(), why).await
}

async fn a_closing_consumer_gives_back_what_it_fetched_ahead(cx: Context) -> CaseResult {
    const MESSAGES: usize = 8;
    let queue = cx.queue().await?;
    let greedy = queue.with_option("prefetch", "20")?.consumer().await?;
    for result in queue
        .producer()
        .await?
        .send_batch(&numbered("m", MESSAGES))
        .await
    {
        result?;
    }
    cx.receive(&greedy).await?.ack().await?;
    // The time to fetch the others.
    sleep(cx.slack()).await;
    greedy.close().await?;
    let other = queue.consumer().await?;
    let deliveries = cx.receive_many(&other, MESSAGES - 1).await?;
    let bodies: BTreeSet<_> = deliveries.iter().map(text).collect();
    ensure_eq!(bodies.len(), MESSAGES - 1, "the number of messages");
    Ok(())
}
