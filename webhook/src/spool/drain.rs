//! Sends on what is in the spool.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use backon::BackoffBuilder;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use towpath_core::{Error, ErrorKind, Message, MessageId, Producer};

use super::Spool;

/// The most that is read into memory and sent together.
const BATCH: usize = 100;
const BATCH_BYTES: u64 = 4 * 1_024 * 1_024;
/// How often a queue that nobody knows is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Spool {
    /// Sends on what is here and what will be, until `shutdown`: each queue in order, with growing
    /// pauses while it cannot be reached. `lookup` says how to reach a queue.
    ///
    /// A message is removed after its queue has taken it. One that its queue refuses for what it is
    /// (invalid, too large) is kept and logged, does not hold up the others, and is tried again when
    /// the spool is opened the next time.
    ///
    /// At the shutdown, batches that are on their way are finished, which takes at most
    /// [`publish_timeout`](super::SpoolOptions::publish_timeout). A second call waits until the first
    /// has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped; what was on its way is sent again.
    pub async fn run(
        &self,
        lookup: impl Fn(&str) -> Option<Producer>,
        shutdown: impl Future<Output = ()>,
    ) {
        let _one = self.0.draining.lock().await;
        let stop = CancellationToken::new();
        let mut shutdown = pin!(shutdown);
        let mut draining = FuturesUnordered::new();
        let mut active: BTreeSet<Arc<str>> = BTreeSet::new();
        loop {
            if !stop.is_cancelled() {
                for queue in self.0.shared.tally().live_queues() {
                    if active.insert(Arc::clone(&queue)) {
                        draining.push(self.drain(queue, &lookup, &stop));
                    }
                }
            } else if draining.is_empty() {
                return;
            }
            // All are cancel safe: a stream's next, a notification that is stored until it is
            // taken, and a future that is kept.
            tokio::select! {
                Some(queue) = draining.next() => {
                    active.remove(&queue);
                }
                () = self.0.shared.added.notified() => {}
                () = &mut shutdown, if !stop.is_cancelled() => stop.cancel(),
            }
        }
    }

    /// Drains one queue until it has nothing more here.
    async fn drain(
        &self,
        queue: Arc<str>,
        lookup: &impl Fn(&str) -> Option<Producer>,
        stop: &CancellationToken,
    ) -> Arc<str> {
        let mut backoff = None;
        while !stop.is_cancelled() {
            // While it fails one message is enough to find out.
            let count = if backoff.is_some() { 1 } else { BATCH };
            let numbers = self.0.shared.tally().first(&queue, count, BATCH_BYTES);
            if numbers.is_empty() {
                break;
            }
            let producer = lookup(&queue);
            let is_unknown = producer.is_none();
            let is_news = self.0.shared.tally().set_unknown(&queue, is_unknown);
            let Some(producer) = producer else {
                if is_news {
                    tracing::warn!(
                        %queue,
                        "the spool has messages of a queue that the configuration does not name; \
                         they are kept until it does"
                    );
                }
                self.pause(stop, LOOK_EVERY).await;
                continue;
            };
            match self.send(&queue, numbers, &producer).await {
                Ok(()) => {
                    if backoff.take().is_some() {
                        tracing::info!(%queue, "the queue is back; the spool is drained into it");
                    }
                }
                Err(error) => {
                    metrics::counter!(
                        "towpath_webhook_spool_drain_failures_total", "queue" => queue.to_string()
                    )
                    .increment(1);
                    let longest = self.0.options.max_backoff;
                    let delays = backoff.get_or_insert_with(|| {
                        backon::ExponentialBuilder::new()
                            .with_min_delay(Duration::from_millis(100).min(longest))
                            .with_max_delay(longest)
                            .with_jitter()
                            .without_max_times()
                            .build()
                    });
                    let delay = delays.next().unwrap_or(longest);
                    let delay = delay.max(error.retry_after().unwrap_or_default());
                    tracing::warn!(%queue, %error, ?delay, "the spool cannot be drained yet");
                    self.pause(stop, delay).await;
                }
            }
            self.0.shared.tally().write_metrics();
        }
        queue
    }

    /// Sends these messages, then removes those that the queue has.
    async fn send(
        &self,
        queue: &Arc<str>,
        numbers: Vec<u64>,
        producer: &Producer,
    ) -> Result<(), Error> {
        let read = self.read(queue, numbers).await?;
        if read.is_empty() {
            let why = "the spool does not find what it wrote";
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        let (numbers, messages): (Vec<u64>, Vec<Message>) = read.into_iter().unzip();
        let results = self.publish(producer, &messages).await?;
        let mut sent = Vec::with_capacity(numbers.len());
        let mut failed = None;
        for (number, result) in numbers.into_iter().zip(results) {
            match result {
                Ok(_) => sent.push(number),
                Err(error) if error.kind().is_about_message() => {
                    tracing::error!(
                        %queue, number, %error,
                        "the queue refuses a message of the spool; it is kept"
                    );
                    self.0.shared.tally().refuse(queue, number);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if !sent.is_empty() {
            let count = sent.len() as u64;
            self.remove(queue, sent).await?;
            metrics::counter!(
                "towpath_webhook_spool_drained_total", "queue" => queue.to_string()
            )
            .increment(count);
        }
        failed.map_or(Ok(()), Err)
    }

    async fn publish(
        &self,
        producer: &Producer,
        messages: &[Message],
    ) -> Result<Vec<Result<MessageId, Error>>, Error> {
        let limit = self.0.options.publish_timeout;
        let sending = Box::pin(producer.send_batch(messages));
        timeout(limit, sending).await.map_err(|_| {
            let why = format!("the queue did not answer within {limit:?}");
            Error::new(ErrorKind::Timeout, why)
        })
    }

    async fn pause(&self, stop: &CancellationToken, delay: Duration) {
        tokio::select! {
            () = sleep(delay) => {}
            () = stop.cancelled() => {}
        }
    }
}
