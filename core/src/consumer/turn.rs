//! One message of an ordering key at a time, where a broker hands out several of a key together.
//!
//! The later ones wait in the pump's buffer, leased, until the one before them is acked. When it is
//! given back or lost instead, they go back too, so that they come again after it.

use std::collections::HashMap;

use crate::driver::Received;

/// Whether a delivery may be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Now.
    Now,
    /// When the one before it of its key is acked.
    Later,
    /// Not any more: the one before it comes again.
    Never,
}

/// For each message, the place of the last one before it with the same ordering key.
pub(super) fn predecessors(received: &[Received]) -> Vec<Option<u32>> {
    let mut last: HashMap<&str, u32> = HashMap::new();
    (0u32..)
        .zip(received)
        .map(|(place, received)| {
            let key = received.envelope.message.ordering_key()?;
            last.insert(key, place)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{
        num::NonZeroUsize,
        sync::{Arc, Mutex, MutexGuard, PoisonError},
        time::Duration,
    };

    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        Capabilities, Consumer, ConsumerOptions, Delivery, Envelope, ErrorKind, Lease, Limits,
        Message, Result,
        driver::{self, Receipt, Received},
    };

    const WAIT: Duration = Duration::from_secs(20);

    /// A queue that hands out what it is told to, and notes what is done to it.
    #[derive(Debug)]
    struct Script {
        capabilities: Capabilities,
        batches: tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<Received>>>,
        done: Mutex<Vec<String>>,
    }

    impl Script {
        fn done(&self) -> MutexGuard<'_, Vec<String>> {
            self.done.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn note(&self, what: &str, receipts: &[Receipt]) -> Vec<Result<()>> {
            let mut done = self.done();
            for receipt in receipts {
                let name = receipt.object::<String>().unwrap();
                done.push(format!("{what} {name}"));
            }
            vec![Ok(()); receipts.len()]
        }
    }

    #[async_trait]
    impl driver::Consumer for Script {
        fn capabilities(&self) -> &Capabilities {
            &self.capabilities
        }

        async fn receive(&self, _max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
            let mut batches = self.batches.lock().await;
            let next = tokio::time::timeout(wait, batches.recv()).await;
            Ok(next.ok().flatten().unwrap_or_default())
        }

        async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
            self.note("ack", receipts)
        }

        async fn nack(&self, receipts: &[Receipt], _delay: Duration) -> Vec<Result<()>> {
            self.note("nack", receipts)
        }

        async fn extend(&self, receipts: &[Receipt], _lease: Duration) -> Vec<Result<()>> {
            vec![Ok(()); receipts.len()]
        }

        async fn close(&self) -> Result<()> {
            self.done().push("close".to_owned());
            Ok(())
        }
    }

    fn open() -> (Arc<Script>, Consumer, mpsc::UnboundedSender<Vec<Received>>) {
        let second = Duration::from_secs(1);
        let lease = Lease::Extended {
            duration: 30 * second,
            range: second..=600 * second,
            max_total: 6_000 * second,
        };
        let limits = Limits {
            receive_batch: 10,
            settle_batch: 10,
            nack_delay: 600 * second,
            ..Limits::default()
        };
        let mut capabilities = Capabilities::new(limits, lease);
        capabilities.ordering = true;
        let (send, batches) = mpsc::unbounded_channel();
        let script = Arc::new(Script {
            capabilities,
            batches: tokio::sync::Mutex::new(batches),
            done: Mutex::default(),
        });
        let consumer = Consumer::new(script.clone(), ConsumerOptions::new("orders")).unwrap();
        (script, consumer, send)
    }

    /// Messages named by key and number; a dash is no key.
    fn batch(names: &[&str]) -> Vec<Received> {
        names
            .iter()
            .map(|name| {
                let message = Message::new((*name).to_owned());
                let message = match name.split_once('-') {
                    Some((key, _)) if !key.is_empty() => message.with_ordering_key(key),
                    _ => message,
                };
                let envelope = Envelope::new((*name).into(), message).with_attempt(Some(1));
                Received::new(envelope, Receipt::new((*name).to_owned()))
            })
            .collect()
    }

    fn names(deliveries: &[Delivery]) -> Vec<&str> {
        deliveries
            .iter()
            .map(|delivery| std::str::from_utf8(delivery.body()).unwrap())
            .collect()
    }

    #[test]
    fn a_message_waits_for_the_last_one_of_its_key() {
        let received = batch(&["a-0", "-1", "b-2", "a-3", "-4", "a-5"]);
        let expected = [None, None, None, Some(0), None, Some(3)];
        assert_eq!(predecessors(&received), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_of_a_key_that_come_together_are_handed_out_one_by_one() -> Result<()> {
        let (script, consumer, send) = open();
        send.send(batch(&["a-0", "a-1", "b-0", "-0", "a-2"]))
            .unwrap();
        let mut first = consumer.receive_batch(10, WAIT).await?;
        assert_eq!(names(&first), ["a-0", "b-0", "-0"]);
        assert!(consumer.receive_batch(10, WAIT).await?.is_empty());

        // What waits does not keep others from being fetched.
        send.send(batch(&["c-0"])).unwrap();
        let others = consumer.receive_batch(10, WAIT).await?;
        assert_eq!(names(&others), ["c-0"]);

        first.remove(0).ack().await?;
        let second = consumer.receive().await?;
        assert_eq!(second.body(), "a-1");
        second.ack().await?;
        assert_eq!(consumer.receive().await?.body(), "a-2");
        assert_eq!(script.done()[..2], ["ack a-0", "ack a-1"]);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_go_back_with_the_one_before_them() -> Result<()> {
        for is_dropped in [false, true] {
            let (script, consumer, send) = open();
            send.send(batch(&["a-0", "a-1", "b-0", "a-2", "b-1"]))
                .unwrap();
            let mut first = consumer.receive_batch(10, WAIT).await?;
            if is_dropped {
                drop(first.remove(0));
            } else {
                first.remove(0).nack(Duration::from_secs(5)).await?;
            }
            // They come again after it; until then there is nothing.
            assert!(consumer.receive_batch(10, WAIT).await?.is_empty());
            let mut done = script.done().clone();
            done.sort();
            assert_eq!(done, ["nack a-0", "nack a-1", "nack a-2"]);
            // The first delivery to a handler is still attempt 1.
            let mut again = batch(&["a-0", "a-1"]);
            for received in &mut again {
                received.envelope.attempt = Some(2);
            }
            send.send(again).unwrap();
            consumer.receive().await?.ack().await?;
            assert_eq!(consumer.receive().await?.attempt(), Some(1));
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_late_receive_brings_is_released_before_the_driver_is_closed() -> Result<()> {
        let (script, consumer, send) = open();
        let waiting = tokio::spawn({
            let consumer = consumer.clone();
            async move { consumer.receive().await.map(drop) }
        });
        tokio::task::yield_now().await;
        for _ in 0..2 {
            consumer.close().await?;
        }
        let ended = waiting.await.unwrap();
        assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::Closed));
        assert_eq!(*script.done(), [""; 0]);
        send.send(batch(&["-0"])).unwrap();
        while script.done().len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*script.done(), ["nack -0", "close", "close"]);
        Ok(())
    }
}
