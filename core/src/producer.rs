//! Sending.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Capabilities, Error, ErrorKind, Message, MessageId, QueueConfig, QueueOptions, Result,
    Validation, backoff::Backoff, driver, validate,
};

mod gather;

/// How a [`Producer`] sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerOptions {
    /// Which bounds a message must keep. Default: portable.
    pub validation: Validation,
    /// How long a single send waits for company before a request goes out. Default: 2 ms where
    /// requests cost ([`Capabilities::gather`]), else not used.
    pub linger: Duration,
    /// How long a send is retried before its error is returned. Default: 30 s.
    pub send_timeout: Duration,
    /// Where the queue is, for [`Producer::config`]. Default: not known.
    pub config: Option<QueueConfig>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            validation: Validation::Portable,
            linger: Duration::from_millis(2),
            send_timeout: Duration::from_secs(30),
            config: None,
        }
    }
}

impl From<&QueueOptions> for ProducerOptions {
    fn from(options: &QueueOptions) -> Self {
        let default = Self::default();
        Self {
            validation: options.validation,
            linger: options.linger.unwrap_or(default.linger),
            send_timeout: options.send_timeout.unwrap_or(default.send_timeout),
            config: None,
        }
    }
}

/// Sends messages to one queue. Cloning is cheap; clones share everything.
///
/// Messages are validated before anything is sent, split into batches as the queue wants them,
/// and retried where the error says that a retry makes sense. Single sends that run at the same
/// time share a request.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    sender: Sender,
    validation: Validation,
    config: Option<QueueConfig>,
    gather: Option<gather::Gather>,
    is_closed: AtomicBool,
}

impl Producer {
    /// The portable form of a driver's sending half.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, where the queue [gathers](Capabilities::gather) sends.
    pub fn new(driver: Arc<dyn driver::Producer>, options: ProducerOptions) -> Self {
        let sender = Sender {
            driver,
            timeout: options.send_timeout,
        };
        let gathers = sender.driver.capabilities().gather;
        let gather = gathers.then(|| gather::Gather::start(sender.clone(), options.linger));
        Self(Arc::new(Inner {
            sender,
            validation: options.validation,
            config: options.config,
            gather,
            is_closed: AtomicBool::new(false),
        }))
    }

    /// What the queue can do.
    pub fn capabilities(&self) -> &Capabilities {
        self.0.sender.driver.capabilities()
    }

    /// Where the queue is and how it is used; `None` for a producer that was made from a driver
    /// and not told.
    pub fn config(&self) -> Option<&QueueConfig> {
        self.0.config.as_ref()
    }

    /// Sends one message; `Ok` means that the queue has it.
    ///
    /// # Errors
    ///
    /// Nothing was sent on [`InvalidMessage`](ErrorKind::InvalidMessage),
    /// [`TooLarge`](ErrorKind::TooLarge), [`Unsupported`](ErrorKind::Unsupported) and
    /// [`Closed`](ErrorKind::Closed). After [`Timeout`](ErrorKind::Timeout) it is unknown whether
    /// the queue has the message; send the same [`Message`] again, and both carry one idempotency
    /// key.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the message may or may not be sent.
    pub async fn send(&self, message: impl Into<Message>) -> Result<MessageId> {
        let message = message.into();
        let bytes = self.check(&message)?;
        match &self.0.gather {
            Some(gather) => gather.send(message, bytes).await,
            None => self
                .0
                .sender
                .send(std::slice::from_ref(&message))
                .await
                .pop()
                .unwrap_or_else(|| Err(missing_result(0, 1))),
        }
    }

    /// Sends many messages: the result at `i` is the fate of `messages[i]`.
    ///
    /// One bad message does not keep the others from being sent. Batches are as large as the queue
    /// takes them and are sent one after the other, so messages of one ordering key stay in order:
    /// when one of them fails, later ones of its key are not sent.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), per message.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, any of the messages may or may not be sent.
    pub async fn send_batch(&self, messages: &[Message]) -> Vec<Result<MessageId>> {
        if messages.is_empty() {
            return Vec::new();
        }
        let limits = &self.capabilities().limits;
        if messages.len() <= limits.send_batch && self.fits_one_call(messages) {
            return self.0.sender.send(messages).await;
        }

        let mut checks: Vec<Result<usize>> =
            messages.iter().map(|message| self.check(message)).collect();
        let mut results: Vec<Result<MessageId>> = Vec::with_capacity(messages.len());
        let mut failed_keys: Vec<&str> = Vec::new();
        let mut next = 0;
        while next < messages.len() {
            // The next run of messages that fits one call; refused ones are left out of it.
            let mut batch = Vec::new();
            let mut bytes = 0usize;
            let start = next;
            while let (Some(message), Some(check)) = (messages.get(next), checks.get_mut(next)) {
                if let Ok(len) = check {
                    if message
                        .ordering_key()
                        .is_some_and(|key| failed_keys.contains(&key))
                    {
                        *check = Err(blocked_key());
                    } else if batch.len() >= limits.send_batch
                        || (!batch.is_empty()
                            && bytes.saturating_add(*len) > limits.send_batch_bytes)
                    {
                        break;
                    } else {
                        bytes = bytes.saturating_add(*len);
                        batch.push(message.clone());
                    }
                }
                next += 1;
            }
            let mut sent = if batch.is_empty() {
                Vec::new()
            } else {
                self.0.sender.send(&batch).await
            }
            .into_iter();
            for (message, check) in messages[start..next].iter().zip(&checks[start..next]) {
                let result = match check {
                    Ok(_) => sent
                        .next()
                        .unwrap_or_else(|| Err(missing_result(0, batch.len()))),
                    Err(error) => Err(error.clone()),
                };
                if let (Err(_), Some(key)) = (&result, message.ordering_key()) {
                    failed_keys.push(key);
                }
                results.push(result);
            }
        }
        results
    }

    /// Stops accepting messages, waits until those accepted before are sent, and closes the queue's
    /// sending half for all clones. Closing twice is fine.
    ///
    /// # Errors
    ///
    /// As the backend reports them; the producer is closed all the same.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the producer is closed, but messages may still be on their way.
    pub async fn close(&self) -> Result<()> {
        self.0.is_closed.store(true, Ordering::Release);
        if let Some(gather) = &self.0.gather {
            gather.flush().await;
        }
        self.0.sender.driver.close().await
    }

    /// Whether all messages are valid and small enough to be sent together.
    fn fits_one_call(&self, messages: &[Message]) -> bool {
        let mut left = self.capabilities().limits.send_batch_bytes;
        messages.iter().all(|message| {
            let fits = self.check(message).ok();
            let rest = fits.and_then(|bytes| left.checked_sub(bytes));
            rest.map(|rest| left = rest).is_some()
        })
    }

    fn check(&self, message: &Message) -> Result<usize> {
        if self.0.is_closed.load(Ordering::Acquire) {
            return Err(closed("send"));
        }
        let bytes = self.0.sender.driver.encoded_len(message);
        validate::check(message, bytes, self.capabilities(), self.0.validation)?;
        Ok(bytes)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Producer")
            .field(&self.0.sender.driver)
            .finish()
    }
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(
        ErrorKind::Closed,
        "it was closed; open the queue again to go on",
    )
    .with_operation(operation)
}

fn blocked_key() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "not sent, because an earlier message of the same ordering key failed",
    )
    .with_operation("send")
}

fn missing_result(got: usize, wanted: usize) -> Error {
    Error::new(
        ErrorKind::Unknown,
        format!(
            "the driver returned {got} results for {wanted} entries; report this to its authors"
        ),
    )
}

/// Sends one driver-sized batch, with retries.
#[derive(Clone, Debug)]
struct Sender {
    driver: Arc<dyn driver::Producer>,
    timeout: Duration,
}

impl Sender {
    /// `batch` is valid and fits one call.
    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        let mut results = self.call(batch).await;
        if results
            .iter()
            .any(|result| result.as_ref().is_err_and(Error::is_retryable))
        {
            self.retry(batch, &mut results).await;
        }
        results
    }

    async fn call(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        let mut results = self.driver.send(batch).await;
        if results.len() != batch.len() {
            let error = missing_result(results.len(), batch.len());
            tracing::error!(%error, driver = ?self.driver, "a driver broke its contract");
            results.resize(batch.len(), Err(error));
        }
        results
    }

    /// Sends the entries again that failed and may succeed, until the time is up.
    async fn retry(&self, batch: &[Message], results: &mut [Result<MessageId>]) {
        let deadline = Instant::now() + self.timeout;
        let mut backoff = Backoff::new();
        loop {
            let is_worth_it = |i: &usize| {
                let may_succeed = results[*i].as_ref().is_err_and(Error::is_retryable);
                may_succeed && !overtaken(batch, results, *i)
            };
            let again: Vec<usize> = (0..results.len()).filter(is_worth_it).collect();
            let delay = backoff.next(again.iter().filter_map(|i| results[*i].as_ref().err()));
            if again.is_empty() || Instant::now() + delay > deadline {
                return;
            }
            tracing::debug!(entries = again.len(), ?delay, "sending again what failed");
            tokio::time::sleep(delay).await;
            let messages: Vec<Message> = again.iter().map(|i| batch[*i].clone()).collect();
            for (i, result) in again.into_iter().zip(self.call(&messages).await) {
                results[i] = result;
            }
        }
    }
}

/// Whether a later message of the same ordering key was accepted, so that sending this one again
/// would break the order.
fn overtaken(batch: &[Message], results: &[Result<MessageId>], i: usize) -> bool {
    let Some(key) = batch[i].ordering_key() else {
        return false;
    };
    (i + 1..batch.len()).any(|j| results[j].is_ok() && batch[j].ordering_key() == Some(key))
}
