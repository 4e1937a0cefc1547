//! The portable `Producer` and `Consumer` of towpath over any of its adapters.

use std::time::Duration;

use towpath_core::{Consumer, Delivery, Message, Producer, Queue};

use crate::{
    Error,
    load::{Figures, Load, Meter, measure},
};

/// How messages are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A batch at a time.
    Batches,
    /// One at a time.
    Single,
}

/// Fills `queue` and empties it.
///
/// # Errors
///
/// What the queue says.
pub async fn run(queue: &Queue, load: Load, style: Style) -> Result<Figures, Error> {
    let producer = queue.producer().await?;
    let consumer = queue.consumer().await?;
    let count = match style {
        Style::Batches => load.tasks,
        Style::Single => load.single_tasks(),
    };
    measure(
        &load,
        |tasks| {
            for _ in 0..count {
                let (producer, load) = (producer.clone(), load.clone());
                tasks.spawn(async move {
                    match style {
                        Style::Batches => send_batches(&producer, &load).await,
                        Style::Single => send_each(&producer, &load).await,
                    }
                });
            }
        },
        |tasks, meter| {
            for _ in 0..count {
                let (consumer, load, meter) = (consumer.clone(), load.clone(), meter.clone());
                tasks.spawn(async move {
                    match style {
                        Style::Batches => receive_batches(&consumer, &load, &meter).await,
                        Style::Single => receive_each(&consumer, &load, &meter).await,
                    }
                });
            }
        },
    )
    .await
}

async fn send_batches(producer: &Producer, load: &Load) -> Result<(), Error> {
    let body = load.body();
    for _ in 0..load.batches() {
        let messages: Vec<Message> = (0..load.batch)
            .map(|_| Message::new(body.clone()))
            .collect();
        for sent in producer.send_batch(&messages).await {
            sent?;
        }
    }
    Ok(())
}

async fn send_each(producer: &Producer, load: &Load) -> Result<(), Error> {
    let body = load.body();
    for _ in 0..load.share() {
        producer.send(body.clone()).await?;
    }
    Ok(())
}

async fn receive_batches(consumer: &Consumer, load: &Load, meter: &Meter) -> Result<(), Error> {
    loop {
        let deliveries = consumer
            .receive_batch(load.batch, Duration::from_secs(20))
            .await?;
        let count = deliveries.len();
        for delivery in &deliveries {
            check(delivery, load)?;
        }
        for acked in consumer.ack_batch(deliveries).await {
            acked.map_err(|failed| failed.error)?;
        }
        meter.add(count);
    }
}

async fn receive_each(consumer: &Consumer, load: &Load, meter: &Meter) -> Result<(), Error> {
    loop {
        let delivery = consumer.receive().await?;
        check(&delivery, load)?;
        delivery.ack().await.map_err(|failed| failed.error)?;
        meter.add(1);
    }
}

/// That a message is one of ours.
fn check(delivery: &Delivery, load: &Load) -> Result<(), Error> {
    if delivery.body().len() == load.body {
        return Ok(());
    }
    Err("a body is not what was sent".into())
}
