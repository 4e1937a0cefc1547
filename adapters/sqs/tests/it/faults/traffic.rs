//! Those who send, and those who handle in all the ways there are.

use std::{sync::atomic::Ordering, time::Duration};

use fastrand::Rng;
use futures::future::join_all;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use towpath_core::{Consumer, Delivery, Envelope, FailureClass, Message, Producer};

use super::notes::Notes;

/// Sends `left` messages, in batches and one by one.
pub(super) async fn produce(
    producer: Producer,
    notes: Notes,
    mut rng: Rng,
    mut left: usize,
) -> towpath_core::Result<()> {
    while left > 0 {
        let count = rng.usize(1..=40).min(left);
        left -= count;
        let messages: Vec<Message> = (0..count).map(|_| message(&mut rng)).collect();
        for message in &messages {
            // It may be received before its send returns.
            notes.0.messages.unknown(message);
        }
        let sent = if rng.bool() {
            producer.send_batch(&messages).await
        } else {
            join_all(
                messages
                    .iter()
                    .map(|message| producer.send(message.clone())),
            )
            .await
        };
        for (message, sent) in messages.iter().zip(sent) {
            match sent {
                Ok(_) => {
                    notes.0.messages.accepted(message);
                    notes.0.accepted.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.is_retryable() => {
                    notes.0.unknown_sends.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Text or bytes, short or, rarely, so long that few share a request.
fn message(rng: &mut Rng) -> Message {
    let length = match rng.u32(..2_000) {
        0 => 150_000,
        _ => rng.usize(1..300),
    };
    let is_text = rng.bool();
    let body: Vec<u8> = (0..length)
        .map(|_| {
            if is_text {
                rng.u8(b' '..=b'~')
            } else {
                rng.u8(..)
            }
        })
        .collect();
    Message::new(body).with_attribute("number", rng.u32(..).to_string())
}

/// One who handles messages.
pub(super) struct Handler {
    pub(super) name: String,
    pub(super) consumer: Consumer,
    pub(super) notes: Notes,
    pub(super) lease: Duration,
}

impl Handler {
    pub(super) async fn run(self, mut rng: Rng, mut stop: watch::Receiver<bool>) {
        let mut held: JoinSet<()> = JoinSet::new();
        loop {
            let size = rng.usize(5..=30);
            let batch = tokio::select! {
                // Dropping a receive loses nothing.
                _ = stop.wait_for(|stop| *stop) => break,
                batch = self.consumer.receive_batch(size, Duration::from_secs(5)) => batch,
            };
            // What the queue reports is over when it is asked again.
            let Ok(batch) = batch else { continue };
            for delivery in &batch {
                self.notes.received(delivery.envelope(), &self.name);
            }
            sleep(Duration::from_millis(rng.u64(..5))).await;
            let mut to_ack = Vec::new();
            for delivery in batch {
                match rng.u32(..1_000) {
                    0..940 => to_ack.push(delivery),
                    940..960 => {
                        self.notes.released(delivery.envelope(), &self.name);
                        let delay = Duration::from_millis(rng.u64(..3_000));
                        // A refused nack gives the delivery back, and dropping it releases.
                        let _ = delivery.nack(delay).await;
                    }
                    960..980 => {
                        self.notes.released(delivery.envelope(), &self.name);
                        drop(delivery);
                    }
                    980..990 => {
                        self.notes.released(delivery.envelope(), &self.name);
                        let class = FailureClass::Permanent;
                        let _ = delivery.dead_letter(class, "cannot succeed").await;
                    }
                    990..995 => {
                        self.notes.released(delivery.envelope(), &self.name);
                        delivery.abandon();
                    }
                    _ => {
                        let (notes, name) = (self.notes.clone(), self.name.clone());
                        // Longer than a lease.
                        let time = self.lease + self.lease / 4;
                        held.spawn(async move { hold(delivery, time, &notes, &name).await });
                    }
                }
            }
            self.ack(to_ack).await;
        }
        while held.join_next().await.is_some() {}
    }

    async fn ack(&self, deliveries: Vec<Delivery>) {
        let envelopes: Vec<Envelope> = deliveries.iter().map(|d| d.envelope().clone()).collect();
        let acked = self.consumer.ack_batch(deliveries).await;
        for (envelope, acked) in envelopes.iter().zip(acked) {
            match acked {
                Ok(_) => self.notes.acked(envelope, &self.name),
                // Noted before the delivery is dropped, which releases the message.
                Err(_) => self.notes.ack_failed(envelope, &self.name),
            }
        }
    }
}

/// Handles a message for so long that its lease has to be extended.
async fn hold(delivery: Delivery, time: Duration, notes: &Notes, name: &str) {
    let envelope = delivery.envelope().clone();
    let is_lost = timeout(time, delivery.lease_lost()).await.is_ok();
    if is_lost {
        notes.0.lost_leases.fetch_add(1, Ordering::Relaxed);
        notes.released(&envelope, name);
        return;
    }
    match delivery.ack().await {
        Ok(_) => notes.acked(&envelope, name),
        Err(_) => notes.ack_failed(&envelope, name),
    }
}
