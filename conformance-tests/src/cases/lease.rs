//! Leases: how long they last and how they end.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};
use towpath_core::{
    Capabilities, Consumer, ConsumerOptions, ErrorKind, Result,
    driver::{self, Receipt, Received},
};

use crate::{
    Case, CaseError, CaseResult, Context,
    context::{numbered, text},
    ensure, ensure_eq,
};

pub(super) const CASES: &[Case] = &[
    case!(
        Lease,
        an_expired_lease_brings_the_message_back,
        [ExtendedLease],
        "A message whose lease nobody keeps comes again when the lease is over, and not before."
    ),
    case!(
        Lease,
        what_a_crashed_consumer_held_comes_back,
        [ExtendedLease],
        "All messages of a consumer that went away without a word are delivered to another."
    ),
    case!(
        Lease,
        a_held_message_is_kept,
        [],
        "As long as a delivery lives, no other consumer gets its message."
    ),
    case!(
        Lease,
        a_prefetched_message_is_kept,
        [],
        "What was fetched ahead is leased too, and is not delivered to others meanwhile."
    ),
    case!(
        Lease,
        an_extended_lease_lasts_longer,
        [ExtendedLease],
        "An extension counts from when it is made."
    ),
    case!(
        Lease,
        an_acked_message_cannot_be_extended,
        [ExtendedLease],
        "Extending the lease of a message that was acked is LeaseLost."
    ),
    case!(
        Lease,
        a_nacked_message_cannot_be_extended,
        [ExtendedLease],
        "Extending the lease of a message that was given back is LeaseLost."
    ),
    case!(
        Lease,
        lease_lost_fires_when_the_message_is_settled_elsewhere,
        [ExtendedLease],
        "A handler is told at the next extension that its message is gone."
    ),
    case!(
        Lease,
        a_lease_ends_at_its_longest_time,
        [],
        "A message is held for max_lease at most: then its handler is told, and others get it."
    ),
    case!(
        Lease,
        every_delivery_counts_as_an_attempt,
        [Attempts],
        "The first delivery is attempt 1, and each nack adds one."
    ),
    case!(
        Lease,
        an_expiry_counts_as_an_attempt,
        [Attempts, ExtendedLease],
        "A lease that ran out adds one to the attempts."
    ),
];

async fn an_expired_lease_brings_the_message_back(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let driver = queue.driver_consumer().await?;
    producer.send("x").await?;
    let begun = Instant::now();
    let held = cx.receive_raw(&*driver).await?;
    let again = cx
        .receive_within(&consumer, cx.lease() + cx.patience())
        .await?;
    let elapsed = begun.elapsed();
    ensure_eq!(again.envelope().id, held.envelope.id, "the id");
    ensure!(
        elapsed + cx.timing().early() >= cx.lease(),
        "it came again after {elapsed:?}, and the lease is {:?}",
        cx.lease()
    );
    ensure!(
        elapsed <= cx.lease() + cx.slack() * 3,
        "it came again after {elapsed:?}, and the lease is {:?}",
        cx.lease()
    );
    again.ack().await?;
    Ok(())
}

async fn what_a_crashed_consumer_held_comes_back(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let (producer, crashing) = queue.halves().await?;
    for result in producer.send_batch(&numbered("m", 4)).await {
        result?;
    }
    for delivery in cx.receive_many(&crashing, 4).await? {
        delivery.abandon();
    }
    drop(crashing);
    let other = queue.consumer().await?;
    let deadline = Instant::now() + cx.lease() + cx.patience();
    let mut bodies = BTreeSet::new();
    while bodies.len() < 4 {
        let left = deadline.saturating_duration_since(Instant::now());
        let delivery = cx.receive_within(&other, left).await?;
        ensure!(
            bodies.insert(text(&delivery)),
            "{:?} came twice",
            text(&delivery)
        );
        delivery.ack().await?;
    }
    Ok(())
}

async fn a_held_message_is_kept(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let other = queue.consumer().await?;
    producer.send("x").await?;
    let held = cx.receive(&consumer).await?;
    let why = "another consumer holds it";
    cx.nothing(&other, cx.lease() * 5 / 2, why).await?;
    ensure!(!held.is_lease_lost(), "the lease was lost");
    held.ack().await?;
    cx.nothing(&other, cx.slack(), "it was acked").await
}

async fn a_prefetched_message_is_kept(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let greedy = queue.with_option("prefetch", "10")?.consumer().await?;
    let other = queue.consumer().await?;
    for result in queue.producer().await?.send_batch(&numbered("m", 5)).await {
        result?;
    }
    let mut bodies = BTreeSet::new();
    let first = cx.receive(&greedy).await?;
    bodies.insert(text(&first));
    first.ack().await?;
    // The time to fetch the others.
    sleep(cx.slack().min(cx.lease() / 4)).await;
    let taking = async {
        for _ in 0..4 {
            // Less than a lease: a consumer that nobody asks gives back what it fetched ahead.
            sleep(cx.lease() * 3 / 5).await;
            let delivery = cx.receive(&greedy).await?;
            ensure!(
                !delivery.is_lease_lost(),
                "the lease was lost before the message was seen"
            );
            bodies.insert(text(&delivery));
            delivery.ack().await?;
        }
        Ok(())
    };
    let why = "another consumer has fetched it";
    tokio::try_join!(taking, cx.nothing(&other, cx.lease() * 12 / 5, why))?;
    ensure_eq!(bodies.len(), 5, "the number of messages");
    Ok(())
}

async fn an_extended_lease_lasts_longer(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let driver = queue.driver_consumer().await?;
    let lease = cx.lease();
    producer.send("x").await?;
    let held = cx.receive_raw(&*driver).await?;
    sleep(lease * 3 / 5).await;
    let begun = Instant::now();
    for result in driver.extend(&[held.receipt], lease).await {
        result?;
    }
    let again = cx.receive_within(&consumer, lease + cx.patience()).await?;
    let elapsed = begun.elapsed();
    ensure!(
        elapsed + cx.timing().early() >= lease,
        "it came {elapsed:?} after an extension by {lease:?}"
    );
    again.ack().await?;
    Ok(())
}

/// The fate of an extension after the message was settled.
async fn extend_settled(cx: &Context, is_nack: bool) -> CaseResult {
    let queue = cx.queue().await?;
    let driver = queue.driver_consumer().await?;
    queue.producer().await?.send("x").await?;
    let held = cx.receive_raw(&*driver).await?;
    let receipts = [held.receipt];
    let settled = if is_nack {
        driver.nack(&receipts, Duration::ZERO).await
    } else {
        driver.ack(&receipts).await
    };
    for result in settled {
        result?;
    }
    let kinds: Vec<_> = driver
        .extend(&receipts, cx.lease())
        .await
        .into_iter()
        .map(|result| result.err().map(|error| error.kind()))
        .collect();
    ensure_eq!(
        kinds,
        [Some(ErrorKind::LeaseLost)],
        "the fate of the extension"
    );
    if is_nack {
        let again = cx.receive_raw(&*driver).await?;
        ensure_eq!(again.envelope.message.body(), "x", "the body");
    }
    driver.close().await?;
    Ok(())
}

async fn an_acked_message_cannot_be_extended(cx: Context) -> CaseResult {
    extend_settled(&cx, false).await
}

async fn a_nacked_message_cannot_be_extended(cx: Context) -> CaseResult {
    extend_settled(&cx, true).await
}

/// A driver that remembers the receipts which it handed out.
#[derive(Debug)]
struct Tap {
    driver: Arc<dyn driver::Consumer>,
    receipts: Arc<Mutex<Vec<Receipt>>>,
}

#[async_trait]
impl driver::Consumer for Tap {
    fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let received = self.driver.receive(max, wait).await?;
        self.receipts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(received.iter().map(|one| one.receipt.clone()));
        Ok(received)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        self.driver.ack(receipts).await
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        self.driver.nack(receipts, delay).await
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        self.driver.extend(receipts, lease).await
    }

    async fn close(&self) -> Result<()> {
        self.driver.close().await
    }
}

async fn lease_lost_fires_when_the_message_is_settled_elsewhere(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let driver = queue.driver_consumer().await?;
    let receipts = Arc::new(Mutex::new(Vec::new()));
    let tap = Tap {
        driver: driver.clone(),
        receipts: receipts.clone(),
    };
    let consumer = Consumer::new(Arc::new(tap), ConsumerOptions::new("tapped"))?;
    queue.producer().await?.send("x").await?;
    let held = cx.receive(&consumer).await?;
    let receipts = std::mem::take(&mut *receipts.lock().unwrap_or_else(PoisonError::into_inner));
    ensure_eq!(receipts.len(), 1, "the number of receipts");
    for result in driver.ack(&receipts).await {
        result?;
    }
    let limit = cx.lease() + cx.slack() * 2;
    if timeout(limit, held.lease_lost()).await.is_err() {
        return Err(CaseError::failed(format!(
            "nobody was told within {limit:?} that the message is gone"
        )));
    }
    let error = match held.ack().await {
        Ok(status) => {
            return Err(CaseError::failed(format!(
                "an ack after the lease was lost is {status:?}"
            )));
        }
        Err(error) => error.error,
    };
    ensure_eq!(error.kind(), ErrorKind::LeaseLost, "the kind of the error");
    Ok(())
}

async fn a_lease_ends_at_its_longest_time(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let longest = cx.lease() * 2;
    let capped = queue.with_option("max_lease", humantime::format_duration(longest).to_string())?;
    let (producer, consumer) = capped.halves().await?;
    producer.send("x").await?;
    let held = cx.receive(&consumer).await?;
    let begun = Instant::now();
    let limit = longest + cx.slack() * 2;
    if timeout(limit, held.lease_lost()).await.is_err() {
        return Err(CaseError::failed(format!(
            "nobody was told within {limit:?} that the lease is over"
        )));
    }
    let elapsed = begun.elapsed();
    ensure!(
        elapsed + cx.slack() >= longest,
        "the lease was lost after {elapsed:?}, and max_lease is {longest:?}"
    );
    match held.ack().await {
        Ok(status) => {
            return Err(CaseError::failed(format!(
                "an ack after the lease was lost is {status:?}"
            )));
        }
        Err(error) => ensure_eq!(
            error.error.kind(),
            ErrorKind::LeaseLost,
            "the kind of the error"
        ),
    }
    let other = queue.consumer().await?;
    // Where the cloud's library keeps leases, the last one may just have been extended.
    let again = cx
        .receive_within(&other, cx.lease() * 2 + cx.patience())
        .await?;
    ensure_eq!(text(&again), "x", "the body");
    again.ack().await?;
    Ok(())
}

async fn every_delivery_counts_as_an_attempt(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    producer.send("x").await?;
    for attempt in 1..=4 {
        let delivery = cx.receive(&consumer).await?;
        ensure_eq!(delivery.attempt(), Some(attempt), "the attempt");
        delivery.nack(Duration::ZERO).await?;
    }
    Ok(())
}

async fn an_expiry_counts_as_an_attempt(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.short_queue().await?.halves().await?;
    producer.send("x").await?;
    let first = cx.receive(&consumer).await?;
    ensure_eq!(first.attempt(), Some(1), "the first attempt");
    first.abandon();
    let second = cx
        .receive_within(&consumer, cx.lease() + cx.patience())
        .await?;
    ensure_eq!(second.attempt(), Some(2), "the second attempt");
    second.ack().await?;
    Ok(())
}
