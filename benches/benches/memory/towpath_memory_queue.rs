//! The portable `Producer` and `Consumer` of towpath over its in-memory queue.

use std::time::Duration;

use towpath_core::{Delivery, Message, Queue, Registry};
use towpath_memory::MemoryBackend;

use crate::load::{BODY, Load, Meter, time};

pub(crate) fn queue() -> Queue {
    Registry::new()
        .with(MemoryBackend::new())
        .open("memory://bench?lease=60s")
        .expect("the URL is right")
}

pub(crate) async fn run(load: Load) -> Duration {
    let queue = queue();
    let mut halves = Vec::new();
    for _ in 0..load.tasks {
        let producer = queue.producer().await.expect("it opens");
        let consumer = queue.consumer().await.expect("it opens");
        halves.push((producer, consumer));
    }
    let meter = Meter::new(load);
    time(meter.clone(), |tasks| {
        for (producer, consumer) in halves {
            tasks.spawn(async move {
                for batch in load.batches() {
                    if batch == 1 {
                        producer.send(BODY.to_vec()).await.expect("it is sent");
                        continue;
                    }
                    let messages: Vec<Message> =
                        (0..batch).map(|_| Message::new(BODY.to_vec())).collect();
                    for result in producer.send_batch(&messages).await {
                        result.expect("it is sent");
                    }
                }
            });
            let meter = meter.clone();
            tasks.spawn(async move {
                loop {
                    if load.batch == 1 {
                        let delivery = consumer.receive().await.expect("it is received");
                        assert_eq!(delivery.body().len(), BODY.len());
                        delivery.ack().await.expect("it is acked");
                        meter.add(1);
                        continue;
                    }
                    let wait = Duration::from_secs(20);
                    let deliveries = consumer.receive_batch(load.batch, wait).await;
                    let deliveries = deliveries.expect("it is received");
                    let count = check(&deliveries);
                    for result in consumer.ack_batch(deliveries).await {
                        result.expect("it is acked");
                    }
                    meter.add(count);
                }
            });
        }
    })
    .await
}

fn check(deliveries: &[Delivery]) -> usize {
    for delivery in deliveries {
        assert_eq!(delivery.body().len(), BODY.len());
    }
    deliveries.len()
}
