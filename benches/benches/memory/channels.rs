//! Plain channels: no ids, leases, acks, attempts or time. What moving the bytes costs.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::load::{BODY, Load, Meter, time};

/// tokio's channel has one receiver, whatever the number of senders.
pub(crate) async fn tokio_mpsc(load: Load) -> Duration {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let meter = Meter::new(load);
    time(meter.clone(), |tasks| {
        for _ in 0..load.tasks {
            let sender = sender.clone();
            tasks.spawn(async move {
                for batch in load.batches() {
                    for _ in 0..batch {
                        sender.send(BODY.to_vec()).expect("it is sent");
                    }
                    tokio::task::consume_budget().await;
                }
            });
        }
        tasks.spawn(async move {
            let mut batch = Vec::with_capacity(load.batch);
            while receiver.recv_many(&mut batch, load.batch).await > 0 {
                meter.count(batch.iter().map(Vec::as_slice));
                batch.clear();
            }
        });
    })
    .await
}

pub(crate) async fn async_channel(load: Load) -> Duration {
    let (sender, receiver) = async_channel::unbounded::<Vec<u8>>();
    let meter = Meter::new(load);
    time(meter.clone(), |tasks| {
        for _ in 0..load.tasks {
            let sender = sender.clone();
            tasks.spawn(async move {
                for batch in load.batches() {
                    for _ in 0..batch {
                        sender.send(BODY.to_vec()).await.expect("it is sent");
                    }
                    tokio::task::consume_budget().await;
                }
            });
            let (receiver, meter) = (receiver.clone(), meter.clone());
            tasks.spawn(async move {
                let mut batch = Vec::with_capacity(load.batch);
                while let Ok(first) = receiver.recv().await {
                    batch.push(first);
                    while batch.len() < load.batch
                        && let Ok(next) = receiver.try_recv()
                    {
                        batch.push(next);
                    }
                    meter.count(batch.iter().map(Vec::as_slice));
                    batch.clear();
                    tokio::task::consume_budget().await;
                }
            });
        }
    })
    .await
}
