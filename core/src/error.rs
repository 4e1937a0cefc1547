//! The one error type of every operation.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

/// The result of a towpath operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms that a program can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The producer, consumer or queue handle was closed.
    Closed,
    /// A URL, an option or a combination of options is wrong. Fix the configuration.
    InvalidConfig,
    /// The message breaks a rule of the queue (attribute names, ordering key, empty body, ...).
    InvalidMessage,
    /// The message, or a batch, is larger than the queue carries.
    TooLarge,
    /// The lease on the delivery is gone: it expired, was revoked, or was settled before.
    LeaseLost,
    /// The queue, topic or subscription does not exist.
    NotFound,
    /// The credentials are valid but not allowed to do this.
    PermissionDenied,
    /// There are no credentials, or the service does not accept them.
    Unauthenticated,
    /// The service, or a bounded queue, asks to slow down.
    Throttled,
    /// No answer came in time. Whether the operation took effect is unknown.
    Timeout,
    /// The service cannot be reached, or answers that it is not available.
    Unavailable,
    /// The queue cannot do what was asked; its [`Capabilities`](crate::Capabilities) say so.
    Unsupported,
    /// Anything else. The source has the details.
    Unknown,
}

impl ErrorKind {
    /// The kind in `snake_case`, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::InvalidConfig => "invalid_config",
            Self::InvalidMessage => "invalid_message",
            Self::TooLarge => "too_large",
            Self::LeaseLost => "lease_lost",
            Self::NotFound => "not_found",
            Self::PermissionDenied => "permission_denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the error is about the message: the same one fails again, and another one can be
    /// sent all the same.
    pub fn is_about_message(self) -> bool {
        matches!(
            self,
            Self::InvalidMessage | Self::TooLarge | Self::Unsupported
        )
    }

    fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Timeout | Self::Unavailable)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an operation failed: kind, backend, operation, a message that says what to do, and the
/// source.
///
/// Cloning is cheap: one error of a batch call can be the fate of many entries.
///
/// ```
/// use towpath_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Throttled, "the queue accepts 300 requests per second")
///     .with_backend("sqs")
///     .with_operation("send");
/// assert!(error.is_retryable());
/// assert_eq!(
///     error.to_string(),
///     "sqs send: throttled: the queue accepts 300 requests per second"
/// );
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    retryable: bool,
    retry_after: Option<Duration>,
    backend: Option<&'static str>,
    operation: Option<&'static str>,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a message that says what was wrong and what to do about it.
    ///
    /// [`Throttled`](ErrorKind::Throttled), [`Timeout`](ErrorKind::Timeout) and
    /// [`Unavailable`](ErrorKind::Unavailable) are retryable unless
    /// [`with_retryable`](Self::with_retryable) says otherwise.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            retryable: kind.is_retryable(),
            retry_after: None,
            backend: None,
            operation: None,
            message: message.into(),
            source: None,
        }))
    }

    /// Names the backend, for instance `"sqs"`.
    #[must_use]
    pub fn with_backend(self, backend: &'static str) -> Self {
        self.edit(|inner| inner.backend = Some(backend))
    }

    /// Names the operation, for instance `"receive"`.
    #[must_use]
    pub fn with_operation(self, operation: &'static str) -> Self {
        self.edit(|inner| inner.operation = Some(operation))
    }

    /// Keeps the underlying error, for [`source`](StdError::source) and downcasts.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source: Box<dyn StdError + Send + Sync> = source.into();
        self.edit(|inner| inner.source = Some(Arc::from(source)))
    }

    /// Overrides whether the same call may succeed later.
    #[must_use]
    pub fn with_retryable(self, retryable: bool) -> Self {
        self.edit(|inner| inner.retryable = retryable)
    }

    /// Marks the error retryable, but not before `after`.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.edit(|inner| {
            inner.retryable = true;
            inner.retry_after = Some(after);
        })
    }

    fn edit(mut self, edit: impl FnOnce(&mut Inner)) -> Self {
        edit(Arc::make_mut(&mut self.0));
        self
    }

    /// What went wrong, in terms that a program can act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The earliest time at which a retry makes sense, where the service named one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The backend that failed, for instance `"sqs"`.
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend
    }

    /// The operation that failed, for instance `"receive"`.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// What was wrong and what to do about it, without backend, operation and kind.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        match (inner.backend, inner.operation) {
            (Some(backend), Some(operation)) => write!(f, "{backend} {operation}: ")?,
            (Some(name), None) | (None, Some(name)) => write!(f, "{name}: ")?,
            (None, None) => {}
        }
        write!(f, "{}: {}", inner.kind, inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let mut s = f.debug_struct("Error");
        s.field("kind", &inner.kind)
            .field("message", &inner.message);
        if let Some(backend) = inner.backend {
            s.field("backend", &backend);
        }
        if let Some(operation) = inner.operation {
            s.field("operation", &operation);
        }
        if inner.retryable {
            s.field("retryable", &true);
        }
        if let Some(after) = inner.retry_after {
            s.field("retry_after", &after);
        }
        if let Some(source) = &inner.source {
            s.field("source", source);
        }
        s.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|s| &**s as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_survives_for_downcasts() {
        let io = std::io::Error::other("connection reset");
        let error = Error::new(ErrorKind::Unavailable, "no connection").with_source(io);
        let source = error.source().unwrap();
        assert!(source.downcast_ref::<std::io::Error>().is_some());
    }

    #[test]
    fn editing_a_clone_leaves_the_original_alone() {
        let first = Error::new(ErrorKind::Unknown, "x");
        let second = first.clone().with_retry_after(Duration::from_secs(3));
        assert!(!first.is_retryable());
        assert!(second.is_retryable());
        assert_eq!(second.retry_after(), Some(Duration::from_secs(3)));
    }
}
