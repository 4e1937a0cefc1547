//! Deduplication.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;
use towpath_core::Message;

use crate::{Case, CaseResult, Context, context::text, ensure_eq};

pub(super) const CASES: &[Case] = &[
    case!(
        Dedup,
        a_repeated_dedup_id_is_delivered_once,
        [Dedup],
        "Each send returns Ok, alone or in a batch, and one message is delivered."
    ),
    case!(
        Dedup,
        different_dedup_ids_are_all_delivered,
        [Dedup],
        "Messages with one body and different deduplication ids are different messages."
    ),
    case!(
        Dedup,
        a_dedup_id_is_remembered_after_the_ack,
        [Dedup],
        "A message that was handled already is not delivered again within the window."
    ),
    case!(
        Dedup,
        a_dedup_id_is_forgotten_when_its_window_is_over,
        [Dedup, PausedClock],
        "After the window that the queue claims, the id is new again."
    ),
];

fn message(body: &'static str, id: &str) -> Message {
    Message::new(body).with_dedup_id(id)
}

async fn a_repeated_dedup_id_is_delivered_once(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    producer.send(message("first", "id-1")).await?;
    producer.send(message("second", "id-1")).await?;
    let batch = [message("third", "id-1"), message("other", "id-2")];
    for result in producer.send_batch(&batch).await {
        result?;
    }
    let deliveries = cx.receive_many(&consumer, 2).await?;
    let bodies: BTreeSet<_> = deliveries.iter().map(text).collect();
    let wanted = ["first", "other"].map(str::to_owned);
    ensure_eq!(bodies, BTreeSet::from(wanted), "what was delivered");
    let why = "its deduplication id was used before";
    cx.nothing(&consumer, cx.slack(), why).await
}

async fn different_dedup_ids_are_all_delivered(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    for id in ["id-1", "id-2", "id-3"] {
        producer.send(message("the same", id)).await?;
    }
    let deliveries = cx.receive_many(&consumer, 3).await?;
    ensure_eq!(deliveries.len(), 3, "the number of messages");
    Ok(())
}

async fn a_dedup_id_is_remembered_after_the_ack(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    producer.send(message("first", "id-1")).await?;
    cx.receive(&consumer).await?.ack().await?;
    producer.send(message("second", "id-1")).await?;
    let why = "its deduplication id was used before";
    cx.nothing(&consumer, cx.slack() * 2, why).await
}

async fn a_dedup_id_is_forgotten_when_its_window_is_over(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let window = producer.capabilities().dedup_window.unwrap_or_default();
    producer.send(message("first", "id-1")).await?;
    cx.receive(&consumer).await?.ack().await?;
    sleep(window + Duration::from_secs(1)).await;
    producer.send(message("second", "id-1")).await?;
    let delivery = cx.receive(&consumer).await?;
    ensure_eq!(text(&delivery), "second", "the body");
    Ok(())
}
