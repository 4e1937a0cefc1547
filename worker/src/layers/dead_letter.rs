//! Gives up on failures that no retry can help.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, FailureClass, Outcome};

use crate::{AttemptService, OutcomeFuture};

type Judge = dyn Fn(&Attempt, &str) -> Option<FailureClass> + Send + Sync;

/// Sends a failed message to the dead-letter queue at once, where a function of yours says so.
///
/// ```
/// use towpath_core::FailureClass;
/// use towpath_worker::layers::DeadLetterLayer;
///
/// let refused = DeadLetterLayer::when(|_, reason| {
///     reason.contains("422").then_some(FailureClass::Permanent)
/// });
/// let after_five = DeadLetterLayer::after_attempts(5);
/// ```
#[derive(Clone)]
pub struct DeadLetterLayer(Arc<Judge>);

impl DeadLetterLayer {
    /// Gives up on a failed attempt when `judge` returns a class for it and its reason.
    pub fn when(
        judge: impl Fn(&Attempt, &str) -> Option<FailureClass> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(judge))
    }

    /// Gives up when this many attempts have failed. For runtimes without a retry policy of their
    /// own; it has no effect where the queue does not count attempts.
    pub fn after_attempts(most: u32) -> Self {
        Self::when(move |attempt, _| {
            attempt
                .number()
                .is_some_and(|number| number >= most)
                .then_some(FailureClass::AttemptsExhausted)
        })
    }
}

impl fmt::Debug for DeadLetterLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadLetterLayer")
    }
}

impl<S> Layer<S> for DeadLetterLayer {
    type Service = DeadLetter<S>;

    fn layer(&self, inner: S) -> DeadLetter<S> {
        DeadLetter {
            inner,
            judge: self.clone(),
        }
    }
}

/// The service of [`DeadLetterLayer`].
#[derive(Clone, Debug)]
pub struct DeadLetter<S> {
    inner: S,
    judge: DeadLetterLayer,
}

impl<S: AttemptService> Service<Attempt> for DeadLetter<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let judge = self.judge.0.clone();
        let work = self.inner.call(attempt.clone());
        Box::pin(async move {
            let outcome = work.await?;
            let class = match &outcome {
                Outcome::Retry { reason, .. } => judge(&attempt, reason),
                _ => None,
            };
            Ok(match (outcome, class) {
                (Outcome::Retry { reason, .. }, Some(class)) => {
                    Outcome::DeadLetter { class, reason }
                }
                (outcome, _) => outcome,
            })
        })
    }
}
