//! RustStream's Pub/Sub broker, on the same client library. It assembles batches on receive, and
//! sends and acks one message at a time.

use std::{num::NonZeroUsize, pin::pin};

use futures::{StreamExt, future::join_all};
use ruststream::{BatchSubscriber, Broker, IncomingMessage, OutgoingMessage, Publisher, Subscribe};
use ruststream_gcp_pubsub::PubSubBroker;

use towpath_benches::{
    Error,
    load::{Figures, Load, measure},
};

use crate::queue::PROJECT;

pub(crate) async fn run(load: Load) -> Result<Figures, Error> {
    let broker = PubSubBroker::new(PROJECT)
        .emulator(load.endpoint.as_str())
        .connect()
        .await?;
    let size = NonZeroUsize::new(load.batch).ok_or("a batch has messages")?;
    let publisher = broker.publisher();
    measure(
        &load,
        |tasks| {
            for _ in 0..load.single_tasks() {
                let (publisher, load) = (publisher.clone(), load.clone());
                tasks.spawn(async move {
                    let body = load.body();
                    for _ in 0..load.share() {
                        let message =
                            OutgoingMessage::produced(&load.queue, body.as_bytes().into());
                        publisher.publish(message, None).await?;
                    }
                    Ok(())
                });
            }
        },
        |tasks, meter| {
            let load = load.clone();
            tasks.spawn(async move {
                let mut subscriber = broker.subscribe(&load.queue).await?;
                let mut batches = pin!(subscriber.batches(size));
                while let Some(batch) = batches.next().await {
                    let batch = batch?;
                    let count = batch.len();
                    for message in &batch {
                        if message.payload().len() != load.body {
                            return Err(Error::from("a body is not what was sent"));
                        }
                    }
                    for acked in join_all(batch.into_iter().map(IncomingMessage::ack)).await {
                        acked?;
                    }
                    meter.add(count);
                }
                Err("the subscription ended".into())
            });
        },
    )
    .await
}
