//! Delays on send.

use tokio::time::Instant;
use towpath_core::Message;

use crate::{Case, CaseResult, Context, context::text, ensure, ensure_eq};

pub(super) const CASES: &[Case] = &[
    case!(
        Delay,
        a_delayed_message_is_neither_early_nor_forgotten,
        [Delay],
        "The message is delivered after its delay, and not before."
    ),
    case!(
        Delay,
        a_delayed_message_does_not_hold_up_others,
        [Delay],
        "What is sent later and without a delay is delivered first."
    ),
];

async fn a_delayed_message_is_neither_early_nor_forgotten(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let delay = cx.delay().min(producer.capabilities().limits.delay);
    let begun = Instant::now();
    producer
        .send(Message::new("later").with_delay(delay))
        .await?;
    let delivery = cx.receive_within(&consumer, delay + cx.patience()).await?;
    let elapsed = begun.elapsed();
    ensure_eq!(text(&delivery), "later", "the body");
    ensure!(
        elapsed + cx.timing().early() >= delay,
        "it came after {elapsed:?}, and its delay is {delay:?}"
    );
    ensure!(
        elapsed <= delay + cx.slack() * 3,
        "it came after {elapsed:?}, and its delay is {delay:?}"
    );
    if let Some(attempt) = delivery.attempt() {
        ensure_eq!(attempt, 1, "the attempt");
    }
    delivery.ack().await?;
    Ok(())
}

async fn a_delayed_message_does_not_hold_up_others(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let delay = cx.delay().min(producer.capabilities().limits.delay);
    producer
        .send(Message::new("later").with_delay(delay))
        .await?;
    producer.send("now").await?;
    for body in ["now", "later"] {
        let delivery = cx.receive_within(&consumer, delay + cx.patience()).await?;
        ensure_eq!(text(&delivery), body, "the body");
        delivery.ack().await?;
    }
    Ok(())
}
