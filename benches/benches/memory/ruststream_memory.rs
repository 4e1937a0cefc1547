//! RustStream's in-memory broker. Subscribers do not share messages, so it has one, whatever the
//! number of producers; it publishes one message at a time.

use std::{num::NonZeroUsize, pin::pin, time::Duration};

use futures::StreamExt;
use ruststream::{
    BatchSubscriber, IncomingMessage, OutgoingMessage, Publisher, memory::MemoryBroker,
};

use crate::load::{BODY, Load, Meter, time};

pub(crate) async fn run(load: Load) -> Duration {
    let broker = MemoryBroker::new();
    let mut subscriber = broker.subscribe("bench");
    let meter = Meter::new(load);
    time(meter.clone(), |tasks| {
        for _ in 0..load.tasks {
            let publisher = broker.publisher();
            tasks.spawn(async move {
                for batch in load.batches() {
                    for _ in 0..batch {
                        let message = OutgoingMessage::produced("bench", BODY[..].into());
                        publisher
                            .publish(message, None)
                            .await
                            .expect("it is published");
                    }
                    tokio::task::consume_budget().await;
                }
            });
        }
        tasks.spawn(async move {
            let size = NonZeroUsize::new(load.batch).expect("not zero");
            let mut batches = pin!(subscriber.batches(size));
            while let Some(Ok(batch)) = batches.next().await {
                let count = batch.len();
                for message in batch {
                    assert_eq!(message.payload().len(), BODY.len());
                    message.ack().await.expect("it is acked");
                }
                meter.add(count);
            }
        });
    })
    .await
}
