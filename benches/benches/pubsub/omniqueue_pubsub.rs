//! omniqueue's Pub/Sub backend, which finds the server by `PUBSUB_EMULATOR_HOST`. It sends and
//! receives in batches, and acks one message at a time.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use omniqueue::{
    QueueProducer,
    backends::{GcpPubSubBackend, GcpPubSubConfig},
};

use towpath_benches::{
    Error,
    load::{Figures, Load, measure},
};

/// A body as it wants it for a batch.
struct Body(Vec<u8>);

impl AsRef<Vec<u8>> for Body {
    fn as_ref(&self) -> &Vec<u8> {
        &self.0
    }
}

fn config(load: &Load) -> GcpPubSubConfig {
    GcpPubSubConfig {
        topic_id: load.queue.clone(),
        subscription_id: load.queue.clone(),
        credentials_file: None,
    }
}

pub(crate) async fn run(load: Load) -> Result<Figures, Error> {
    let producer = GcpPubSubBackend::builder(config(&load))
        .build_producer()
        .await?;
    let producer = Arc::new(producer);
    let mut consumers = Vec::new();
    for _ in 0..load.tasks {
        // Receiving takes one for itself.
        let consumer = GcpPubSubBackend::builder(config(&load));
        consumers.push(consumer.build_consumer().await?);
    }
    measure(
        &load,
        |tasks| {
            for _ in 0..load.tasks {
                let (producer, load) = (producer.clone(), load.clone());
                tasks.spawn(async move {
                    let body = load.body().into_bytes();
                    for _ in 0..load.batches() {
                        let bodies = (0..load.batch).map(|_| Body(body.clone()));
                        producer.send_raw_batch(bodies).await?;
                    }
                    Ok(())
                });
            }
        },
        |tasks, meter| {
            for mut consumer in consumers {
                let (load, meter) = (load.clone(), meter.clone());
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
