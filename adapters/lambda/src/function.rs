//! The function: a handler with its settings.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lambda_events::sqs::SqsBatchResponse;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;
use tokio::time::Instant;
use towpath_core::{Error as CoreError, ErrorKind, Handler, Producer, Result};

use crate::{Error, batch::Batch, record::Event};

/// A Lambda function that runs a handler on the messages of an SQS queue. Cloning is cheap; clones
/// share everything.
#[derive(Clone)]
pub struct SqsFunction(Arc<Settings>);

pub(crate) struct Settings {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) concurrency: usize,
    pub(crate) dead_letter: Option<Producer>,
    pub(crate) max_attempts: Option<u32>,
    margin: Duration,
    whole_batches: bool,
}

impl SqsFunction {
    /// A function that runs `handler`, as [`builder`](Self::builder) without further settings.
    pub fn new(handler: impl Handler) -> Self {
        Self(Arc::new(SqsFunctionBuilder::new(handler).0))
    }

    /// Builds a function that runs `handler`.
    pub fn builder(handler: impl Handler) -> SqsFunctionBuilder {
        SqsFunctionBuilder::new(handler)
    }

    /// Handles the invocations of this function, one after the other, until the process ends.
    ///
    /// # Errors
    ///
    /// When the runtime API of Lambda cannot be reached.
    ///
    /// # Panics
    ///
    /// Outside Lambda, where the environment variables of its runtime are missing.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the invocation is not answered, and its messages come back.
    pub async fn run(self) -> Result<(), Error> {
        lambda_runtime::run(service_fn(move |event| {
            let function = self.clone();
            async move { function.handle(event).await }
        }))
        .await
    }

    /// Handles one invocation, for functions that do more than this.
    ///
    /// # Errors
    ///
    /// When the invocation failed as a whole, so that all of its messages come back: the event is
    /// not of SQS, a record has no id, or, with [`whole_batches`](SqsFunctionBuilder::whole_batches),
    /// a message failed.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, so are the handlers; answer with an error then.
    pub async fn handle(&self, event: LambdaEvent<Value>) -> Result<SqsBatchResponse, Error> {
        let settings = &self.0;
        let left = event
            .context
            .deadline()
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let stop = Instant::now() + left.saturating_sub(settings.margin);
        let event = Event::read(event.payload).inspect_err(|error| {
            tracing::error!(%error, "the event is refused, and its messages come back");
        })?;
        let total = event.records.len();
        let failed = Batch::new(settings, event)
            .run(stop, settings.margin / 2)
            .await;
        tracing::debug!(
            messages = total,
            failed = failed.len(),
            "a batch was handled"
        );
        if settings.whole_batches && !failed.is_empty() {
            return Err(format!(
                "{} of {total} messages failed, and the batch comes back as a whole",
                failed.len()
            )
            .into());
        }
        let mut response = SqsBatchResponse::default();
        for id in failed {
            response.add_failure(id);
        }
        Ok(response)
    }
}

impl fmt::Debug for SqsFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsFunction")
            .field("concurrency", &self.concurrency)
            .field("dead_letter", &self.dead_letter)
            .field("max_attempts", &self.max_attempts)
            .field("margin", &self.margin)
            .field("whole_batches", &self.whole_batches)
            .finish_non_exhaustive()
    }
}

/// Builds a [`SqsFunction`]. Made by [`SqsFunction::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct SqsFunctionBuilder(Settings);

impl SqsFunctionBuilder {
    fn new(handler: impl Handler) -> Self {
        Self(Settings {
            handler: Arc::new(handler),
            concurrency: 10,
            dead_letter: None,
            max_attempts: None,
            margin: Duration::from_secs(1),
            whole_batches: false,
        })
    }

    /// How many messages of a batch are handled at once, at most; on a FIFO queue, how many groups.
    /// Default: 10.
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.0.concurrency = messages;
        self
    }

    /// Where messages go that failed for good, with the reason. Default: nowhere; they are reported
    /// as failed, until the queue's own redrive policy moves them.
    pub fn dead_letter(mut self, producer: Producer) -> Self {
        self.0.dead_letter = Some(producer);
        self
    }

    /// Dead-letters a message when this many attempts have failed, with the reason of the last one.
    /// Below the `maxReceiveCount` of the queue's redrive policy, which moves messages without a
    /// reason. Needs [`dead_letter`](Self::dead_letter). Default: no limit.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.0.max_attempts = Some(attempts);
        self
    }

    /// How long before the function's deadline the handlers are cancelled. A handler has half of it
    /// to end by itself, before its future is dropped. Default: 1 s.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.0.margin = margin;
        self
    }

    /// Fails the invocation when one message failed, so that the whole batch comes back. For event
    /// source mappings without `ReportBatchItemFailures`, which would delete the failed messages.
    pub fn whole_batches(mut self) -> Self {
        self.0.whole_batches = true;
        self
    }

    /// The function.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for a limit on attempts without a dead-letter
    /// queue, for a limit of 0, and for no concurrency.
    pub fn build(self) -> Result<SqsFunction> {
        let Self(settings) = self;
        let invalid = |text: &str| Err(CoreError::new(ErrorKind::InvalidConfig, text));
        if settings.concurrency == 0 {
            return invalid("concurrency: must be at least 1");
        }
        match settings.max_attempts {
            Some(0) => return invalid("max_attempts: at least 1 attempt is needed"),
            Some(_) if settings.dead_letter.is_none() => {
                return invalid(
                    "max_attempts: messages that fail too often need a place; set dead_letter",
                );
            }
            _ => {}
        }
        Ok(SqsFunction(Arc::new(settings)))
    }
}
