//! omniqueue's in-memory backend. It has one consumer, whatever the number of producers.

use std::{sync::Arc, time::Duration};

use omniqueue::backends::InMemoryBackend;

use crate::load::{BODY, Load, Meter, time};

pub(crate) async fn run(load: Load) -> Duration {
    let (producer, mut consumer) = InMemoryBackend::builder()
        .build_pair()
        .await
        .expect("it opens");
    let producer = Arc::new(producer);
    let meter = Meter::new(load);
    time(meter.clone(), |tasks| {
        for _ in 0..load.tasks {
            let producer = producer.clone();
            tasks.spawn(async move {
                for batch in load.batches() {
                    for _ in 0..batch {
                        producer.send_raw(&BODY).await.expect("it is sent");
                    }
                    // It never waits, and would keep its thread.
                    tokio::task::consume_budget().await;
                }
            });
        }
        tasks.spawn(async move {
            loop {
                let deliveries = if load.batch == 1 {
                    vec![consumer.receive().await.expect("it is received")]
                } else {
                    let wait = Duration::from_secs(20);
                    let deliveries = consumer.receive_all(load.batch, wait).await;
                    deliveries.expect("it is received")
                };
                let count = deliveries.len();
                for delivery in deliveries {
                    let body = delivery.borrow_payload().expect("it has a body");
                    assert_eq!(body.len(), BODY.len());
                    let acked = delivery.ack().await;
                    acked.map_err(|(error, _)| error).expect("it is acked");
                }
                meter.add(count);
            }
        });
    })
    .await
}
