//! omniqueue's SQS backend. It receives in batches, sends in batches when asked to, and acks one
//! message at a time.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use omniqueue::{QueueProducer, backends::SqsBackend};

use towpath_benches::{
    Error,
    load::{Figures, Load, measure},
};

use crate::client;

/// A body as it wants it for a batch.
struct Body(String);

impl AsRef<String> for Body {
    fn as_ref(&self) -> &String {
        &self.0
    }
}

pub(crate) async fn run(load: Load, in_batches: bool) -> Result<Figures, Error> {
    let config = client(&load.endpoint).config().clone();
    let (producer, consumer) = SqsBackend::builder(load.queue.as_str())
        .sqs_config(config)
        .build_pair()
        .await?;
    let (producer, consumer) = (Arc::new(producer), Arc::new(consumer));
    let senders = if in_batches {
        load.tasks
    } else {
        load.single_tasks()
    };
    measure(
        &load,
        |tasks| {
            for _ in 0..senders {
                let (producer, load) = (producer.clone(), load.clone());
                tasks.spawn(async move {
                    let body = load.body();
                    if in_batches {
                        for _ in 0..load.batches() {
                            let bodies = (0..load.batch).map(|_| Body(body.clone()));
                            producer.send_raw_batch(bodies).await?;
                        }
                    } else {
                        for _ in 0..load.share() {
                            producer.send_raw(&body).await?;
                        }
                    }
                    Ok(())
                });
            }
        },
        |tasks, meter| {
            for _ in 0..load.tasks {
                let (consumer, load, meter) = (consumer.clone(), load.clone(), meter.clone());
                tasks.spawn(async move {
                    loop {
                        let wait = Duration::from_secs(20);
                        let deliveries = consumer.receive_all(load.batch, wait).await?;
                        let count = deliveries.len();
                        let acks = deliveries.into_iter().map(|delivery| async {
                            let body = delivery.borrow_payload().map_or(0, <[u8]>::len);
                            if body != load.body {
                                return Err(Error::from("a body is not what was sent"));
                            }
                            delivery.ack().await.map_err(|(error, _)| error.into())
                        });
                        for acked in join_all(acks).await {
                            acked?;
                        }
                        meter.add(count);
                    }
                });
            }
        },
    )
    .await
}
