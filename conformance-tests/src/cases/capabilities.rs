//! What is claimed holds, and what is not claimed is refused.

use std::{num::NonZeroUsize, time::Duration};

use tokio::time::{Instant, sleep};
use towpath_core::{Attempts, Error, ErrorKind, Lease, Message, Precision, driver::Receipt};

use crate::{Case, CaseError, CaseResult, Context, context::text, ensure, ensure_eq};

pub(super) const CASES: &[Case] = &[
    case!(
        Capabilities,
        ordering_keys_are_honoured_or_refused,
        [],
        "A queue either holds back the next message of a key, or refuses keys as Unsupported."
    ),
    case!(
        Capabilities,
        dedup_ids_are_honoured_or_refused,
        [],
        "A queue either drops the second message of an id, or refuses ids as Unsupported."
    ),
    case!(
        Capabilities,
        delays_are_honoured_or_refused,
        [],
        "A delay on send is either kept, or Unsupported."
    ),
    case!(
        Capabilities,
        nack_delays_are_honoured_or_refused,
        [],
        "A delayed nack either waits, or is Unsupported and leaves the delivery with its holder."
    ),
    case!(
        Capabilities,
        leases_are_extended_or_managed,
        [],
        "A driver's extend either works, or is Unsupported because leases are managed."
    ),
    case!(
        Capabilities,
        attempts_are_counted_or_absent,
        [],
        "Attempts are told exactly where they are counted; elsewhere a limit on them is refused."
    ),
    case!(
        Capabilities,
        the_depth_is_told_or_refused,
        [],
        "depth either answers, or is Unsupported."
    ),
    case!(
        Capabilities,
        the_age_of_the_oldest_is_told_or_absent,
        [],
        "The age of the oldest message is there where it is claimed, and only there."
    ),
    case!(
        Capabilities,
        purging_works_or_is_refused,
        [],
        "purge either empties the queue, or is Unsupported and removes nothing."
    ),
    case!(
        Capabilities,
        empty_bodies_are_carried_or_refused,
        [],
        "An empty body either comes out empty, or is InvalidMessage."
    ),
    case!(
        Capabilities,
        empty_attribute_values_are_carried_or_refused,
        [],
        "An empty attribute value either comes out empty, or is InvalidMessage."
    ),
    case!(
        Capabilities,
        a_broker_policy_is_claimed_only_where_there_is_one,
        [],
        "A queue that was created without a dead-letter policy does not claim one."
    ),
    case!(
        Capabilities,
        the_lease_is_that_of_the_queue,
        [ExtendedLease],
        "A consumer's lease is what the queue was created with, or what its option says."
    ),
];

/// The capability says what the outcome must be.
fn refused<T>(result: Result<T, Error>, kind: ErrorKind, what: &str) -> CaseResult {
    match result {
        Ok(_) => Err(CaseError::failed(format!(
            "{what} is not claimed, and was accepted"
        ))),
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(CaseError::failed(format!(
            "{what} is refused as {error}, and {kind} is right"
        ))),
    }
}

async fn ordering_keys_are_honoured_or_refused(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let keyed = |body: &'static str| Message::new(body).with_ordering_key("k");
    if !consumer.capabilities().ordering {
        let sent = producer.send(keyed("first")).await;
        return refused(sent, ErrorKind::Unsupported, "ordering");
    }
    producer.send(keyed("first")).await?;
    producer.send(keyed("second")).await?;
    let first = cx.receive(&consumer).await?;
    ensure_eq!(text(&first), "first", "the first of the key");
    let why = "the first of its key is under way";
    cx.nothing(&consumer, cx.slack(), why).await
}

async fn dedup_ids_are_honoured_or_refused(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let message = || Message::new("x").with_dedup_id("id-1");
    if producer.capabilities().dedup_window.is_none() {
        let sent = producer.send(message()).await;
        return refused(sent, ErrorKind::Unsupported, "deduplication");
    }
    producer.send(message()).await?;
    producer.send(message()).await?;
    cx.receive(&consumer).await?.ack().await?;
    let why = "its deduplication id was used before";
    cx.nothing(&consumer, cx.slack(), why).await
}

async fn delays_are_honoured_or_refused(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let longest = producer.capabilities().limits.delay;
    if !longest.is_zero() {
        let begun = Instant::now();
        let delay = cx.delay().min(longest);
        producer.send(Message::new("x").with_delay(delay)).await?;
        let delivery = cx.receive_within(&consumer, delay + cx.patience()).await?;
        ensure!(
            begun.elapsed() + cx.timing().early() >= delay,
            "it came after {:?}, and its delay is {delay:?}",
            begun.elapsed()
        );
        delivery.ack().await?;
    }
    let beyond = Message::new("x").with_delay(longest + Duration::from_secs(1));
    let sent = producer.send(beyond).await;
    refused(sent, ErrorKind::Unsupported, "a longer delay")
}

async fn nack_delays_are_honoured_or_refused(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    producer.send("x").await?;
    let mut held = cx.receive(&consumer).await?;
    let longest = consumer.capabilities().limits.nack_delay;
    if !longest.is_zero() {
        let begun = Instant::now();
        let delay = cx.delay().min(longest);
        held.nack(delay).await?;
        held = cx.receive_within(&consumer, delay + cx.patience()).await?;
        ensure!(
            begun.elapsed() + cx.timing().early() >= delay,
            "it came after {:?}, and its delay is {delay:?}",
            begun.elapsed()
        );
    }
    let beyond = longest + Duration::from_secs(1);
    let error = match held.nack(beyond).await {
        Ok(()) => {
            return Err(CaseError::failed(format!(
                "a nack with a delay of {beyond:?} is not claimed, and was accepted"
            )));
        }
        Err(error) => error,
    };
    ensure_eq!(
        error.error.kind(),
        ErrorKind::Unsupported,
        "the kind of the refusal"
    );
    let Some(held) = error.delivery else {
        return Err(CaseError::failed("the refused nack lost the delivery"));
    };
    held.ack().await?;
    Ok(())
}

async fn leases_are_extended_or_managed(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let driver = queue.driver_consumer().await?;
    queue.producer().await?.send("x").await?;
    let held = cx.receive_raw(&*driver).await?;
    let receipts = [held.receipt];
    let extend = async |receipts: &[Receipt], lease: Duration| {
        let results = driver.extend(receipts, lease).await;
        results
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Unknown, "there is no result")))
    };
    let Lease::Extended {
        duration, range, ..
    } = &driver.capabilities().lease
    else {
        let extended = extend(&receipts, cx.lease()).await;
        return refused(extended, ErrorKind::Unsupported, "extending leases");
    };
    ensure!(
        range.contains(duration),
        "the lease {duration:?} is outside of the claimed range {range:?}"
    );
    extend(&receipts, *duration).await?;
    extend(&receipts, *range.start()).await?;
    let beyond = *range.end() + Duration::from_secs(1);
    let extended = extend(&receipts, beyond).await;
    refused(extended, ErrorKind::Unsupported, "a longer lease")
}

async fn attempts_are_counted_or_absent(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    producer.send("x").await?;
    let is_counted = consumer.capabilities().attempts != Attempts::Uncounted;
    for attempt in 1..=2 {
        let delivery = cx.receive(&consumer).await?;
        ensure_eq!(
            delivery.attempt(),
            is_counted.then_some(attempt),
            "the attempt"
        );
        delivery.nack(Duration::ZERO).await?;
    }
    if !is_counted {
        let limited = queue
            .with_option("dead_letter", format!("{}-dlq", cx.fresh_name()))?
            .with_option("max_attempts", "5");
        // Refused, or the limit makes the queue count.
        if let Ok(limited) = limited
            && let Ok(consumer) = limited.queue().consumer().await
        {
            ensure!(
                consumer.capabilities().attempts != Attempts::Uncounted,
                "a limit on attempts was accepted where they are not counted"
            );
        }
    }
    Ok(())
}

async fn the_depth_is_told_or_refused(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let claimed = queue.capabilities().await?.depth;
    let depth = queue.admin().await?.depth().await;
    if claimed == Precision::Unknown {
        return refused(depth, ErrorKind::Unsupported, "the depth");
    }
    let depth = depth?;
    ensure_eq!(depth.total(), 0, "the depth of a new queue");
    Ok(())
}

async fn the_age_of_the_oldest_is_told_or_absent(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let capabilities = queue.capabilities().await?;
    if capabilities.depth == Precision::Unknown {
        ensure!(
            !capabilities.oldest_age,
            "an age is claimed where the depth is not"
        );
        return Ok(());
    }
    queue.producer().await?.send("x").await?;
    sleep(cx.delay()).await;
    let age = queue.admin().await?.depth().await?.oldest_age;
    if !capabilities.oldest_age {
        ensure_eq!(age, None, "the age, which is not claimed,");
        return Ok(());
    }
    let Some(age) = age else {
        return Err(CaseError::failed("the age is claimed, and not told"));
    };
    let tolerance = cx.slack() * 2;
    ensure!(
        age + tolerance >= cx.delay() && age <= cx.delay() + tolerance,
        "the age is {age:?}, and about {:?} is right",
        cx.delay()
    );
    Ok(())
}

async fn purging_works_or_is_refused(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    producer.send("x").await?;
    let is_claimed = consumer.capabilities().purge;
    let purged = queue.admin().await?.purge().await;
    if is_claimed {
        purged?;
        let why = "the queue was purged";
        return cx.nothing(&consumer, cx.slack() * 2, why).await;
    }
    refused(purged, ErrorKind::Unsupported, "purging")?;
    cx.receive(&consumer).await?.ack().await?;
    Ok(())
}

async fn empty_bodies_are_carried_or_refused(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.native()?.halves().await?;
    let message = Message::new("").with_attribute("a", "1");
    if !producer.capabilities().limits.empty_body {
        let sent = producer.send(message).await;
        return refused(sent, ErrorKind::InvalidMessage, "an empty body");
    }
    producer.send(message.clone()).await?;
    producer.send(Message::new("")).await?;
    for delivery in cx.receive_many(&consumer, 2).await? {
        ensure!(delivery.body().is_empty(), "the body is not empty");
    }
    Ok(())
}

async fn empty_attribute_values_are_carried_or_refused(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.native()?.halves().await?;
    let message = Message::new("x").with_attribute("empty", "");
    if !producer.capabilities().limits.empty_attribute_value {
        let sent = producer.send(message).await;
        return refused(sent, ErrorKind::InvalidMessage, "an empty attribute");
    }
    producer.send(message).await?;
    let delivery = cx.receive(&consumer).await?;
    ensure_eq!(delivery.attributes().get("empty"), Some(""), "the value");
    Ok(())
}

async fn a_broker_policy_is_claimed_only_where_there_is_one(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let claimed = queue.capabilities().await?.broker_dead_letter;
    ensure!(
        !claimed,
        "a dead-letter policy is claimed, and none was set"
    );
    let info = queue.admin().await?.inspect().await?;
    ensure_eq!(info.dead_letter, None, "the dead-letter policy");
    Ok(())
}

async fn the_lease_is_that_of_the_queue(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let capabilities = queue.capabilities().await?;
    ensure_eq!(
        capabilities.lease.duration(),
        Some(cx.lease()),
        "the lease of a consumer"
    );
    let driver = queue.driver_consumer().await?;
    queue.producer().await?.send("x").await?;
    let begun = Instant::now();
    cx.receive_raw(&*driver).await?;
    let deadline = begun + cx.lease() + cx.patience();
    loop {
        ensure!(Instant::now() < deadline, "the lease does not end");
        let again = driver.receive(NonZeroUsize::MIN, cx.slack()).await?;
        if !again.is_empty() {
            break;
        }
    }
    let elapsed = begun.elapsed();
    ensure!(
        elapsed + cx.timing().early() >= cx.lease(),
        "the lease ended after {elapsed:?}, and {:?} is claimed",
        cx.lease()
    );
    Ok(())
}
