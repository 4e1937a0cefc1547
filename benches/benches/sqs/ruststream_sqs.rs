//! RustStream's SQS broker. It receives in batches, and sends and acks one message at a time.

use std::{num::NonZeroUsize, pin::pin};

use futures::{StreamExt, future::join_all};
use ruststream::{BatchSubscriber, Broker, IncomingMessage, OutgoingMessage, Publisher};
use ruststream_sqs_sns::{SqsBroker, SqsQueue};

use towpath_benches::{
    Error,
    load::{Figures, Load, measure},
};

pub(crate) async fn run(load: Load) -> Result<Figures, Error> {
    let broker = SqsBroker::new()
        .endpoint(&load.endpoint)
        .region("us-east-1")
        .test_credentials()
        .connect()
        .await?;
    let name = load.queue.rsplit('/').next().unwrap_or_default();
    let mut subscribers = Vec::new();
    for _ in 0..load.tasks {
        let queue = SqsQueue::new(name.to_owned());
        subscribers.push(broker.subscribe_queue(queue).await?);
    }
    let size = NonZeroUsize::new(load.batch).ok_or("a batch has messages")?;
    measure(
        &load,
        |tasks| {
            for _ in 0..load.single_tasks() {
                let (publisher, load, name) = (broker.publisher(), load.clone(), name.to_owned());
                tasks.spawn(async move {
                    let body = load.body();
                    for _ in 0..load.share() {
                        let message = OutgoingMessage::produced(&name, body.as_bytes().into());
                        publisher.publish(message, None).await?;
                    }
                    Ok(())
                });
            }
        },
        |tasks, meter| {
            for mut subscriber in subscribers {
                let (load, meter) = (load.clone(), meter.clone());
                tasks.spawn(async move {
                    let mut batches = pin!(subscriber.batches(size));
                    while let Some(batch) = batches.next().await {
                        let batch = batch?;
                        let count = batch.len();
                        for message in &batch {
                            if message.payload().len() != load.body {
                                return Err(Error::from("a body is not what was sent"));
                            }
                        }
                        let acks = batch.into_iter().map(IncomingMessage::ack);
                        for acked in join_all(acks).await {
                            acked?;
                        }
                        meter.add(count);
                    }
                    Err("the subscription ended".into())
                });
            }
        },
    )
    .await
}
