//! What Pub/Sub and its client library report, as towpath errors. One table, by status code.

use std::{error::Error as StdError, time::Duration};

use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::{
    client_builder,
    error::{
        Error as SdkError,
        rpc::{Code, StatusDetails},
    },
};
use google_cloud_pubsub::error::{AckError, PublishError};
use towpath_core::{Error, ErrorKind};

/// The name of this backend in errors.
pub(crate) const BACKEND: &str = "pubsub";

/// What was being done when an error came. The same code can mean different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Send,
    Receive,
    Ack,
    Nack,
    Extend,
    Ensure,
    Inspect,
    Depth,
    Purge,
    Delete,
    Close,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::Extend => "extend",
            Self::Ensure => "ensure",
            Self::Inspect => "inspect",
            Self::Depth => "depth",
            Self::Purge => "purge",
            Self::Delete => "delete",
            Self::Close => "close",
        }
    }

    /// An error of this operation.
    pub(crate) fn error(self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message)
            .with_backend(BACKEND)
            .with_operation(self.name())
    }

    /// The error of a call about `what` that was given up.
    pub(crate) fn timed_out(self, what: &str, after: Duration) -> Error {
        self.error(
            ErrorKind::Timeout,
            format!(
                "{what}: Pub/Sub did not answer within {}; whether the call took effect is unknown",
                humantime::format_duration(after)
            ),
        )
    }

    /// The error of a call on a half that was closed.
    pub(crate) fn closed(self) -> Error {
        self.error(
            ErrorKind::Closed,
            "it was closed; open the queue again to go on",
        )
    }

    /// The error of a settlement of what is not held any more.
    pub(crate) fn lease_lost(self) -> Error {
        self.error(
            ErrorKind::LeaseLost,
            "the message was settled before, or its lease is over; another consumer may have it",
        )
    }

    fn is_of_admin(self) -> bool {
        matches!(
            self,
            Self::Open | Self::Ensure | Self::Inspect | Self::Depth | Self::Purge | Self::Delete
        )
    }
}

/// An error about the configuration, before any call.
pub(crate) fn invalid_config(message: impl Into<String>) -> Error {
    Operation::Open.error(ErrorKind::InvalidConfig, message)
}

/// What a status code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    kind: ErrorKind,
    /// Whether the same call may succeed later.
    retry: bool,
    /// What to do about it.
    hint: &'static str,
}

/// The table: a status code, and the operation that it ended.
///
/// Which codes may be retried: <https://cloud.google.com/pubsub/docs/reference/error-codes>
fn classify(operation: Operation, code: Code, message: &str) -> Meaning {
    use ErrorKind as Kind;
    let meaning = |kind, hint| Meaning {
        kind,
        retry: matches!(kind, Kind::Throttled | Kind::Timeout | Kind::Unavailable),
        hint,
    };
    let settles = matches!(operation, Operation::Ack | Operation::Nack);
    match code {
        Code::InvalidArgument | Code::OutOfRange if operation == Operation::Send => {
            if message.contains("payload size") || message.contains("too large") {
                meaning(Kind::TooLarge, "the request is larger than Pub/Sub takes")
            } else {
                meaning(
                    Kind::InvalidMessage,
                    "the message breaks a rule of Pub/Sub, or of the topic's schema",
                )
            }
        }
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition if settles => meaning(
            Kind::LeaseLost,
            "the lease is over; another consumer may have the message",
        ),
        Code::InvalidArgument | Code::OutOfRange => meaning(
            Kind::InvalidConfig,
            "Pub/Sub does not accept the name or a setting",
        ),
        Code::FailedPrecondition if operation == Operation::Send => meaning(
            Kind::InvalidConfig,
            "the topic is not ready for messages; check its state, its encryption key and its \
             ordering",
        ),
        Code::FailedPrecondition => meaning(
            Kind::InvalidConfig,
            "the subscription does not allow this; is it a pull subscription, and attached?",
        ),
        Code::NotFound => meaning(
            Kind::NotFound,
            "it does not exist; check the names, or create the queue",
        ),
        Code::AlreadyExists => meaning(
            Kind::InvalidConfig,
            "it was created meanwhile, perhaps with other settings; run ensure again",
        ),
        Code::PermissionDenied => meaning(
            Kind::PermissionDenied,
            "the account lacks a role; see the README for the roles that are needed",
        ),
        Code::Unauthenticated => meaning(
            Kind::Unauthenticated,
            "Google does not accept the credentials; run gcloud auth application-default login, \
             or attach a service account",
        ),
        Code::ResourceExhausted => meaning(Kind::Throttled, "a quota of Pub/Sub is used up"),
        Code::DeadlineExceeded => meaning(
            Kind::Timeout,
            "Pub/Sub did not answer in time; whether the call took effect is unknown",
        ),
        Code::Unavailable | Code::Aborted | Code::Internal | Code::Cancelled => {
            meaning(Kind::Unavailable, "Pub/Sub is not available just now")
        }
        Code::Unimplemented => meaning(Kind::Unsupported, "this server cannot do that"),
        // The documentation wants unknown failures retried; of a change of settings it is not
        // known whether that helps.
        Code::Unknown => Meaning {
            retry: !operation.is_of_admin(),
            ..meaning(Kind::Unknown, "Pub/Sub does not say what is wrong")
        },
        Code::DataLoss => meaning(Kind::Unknown, "Pub/Sub has lost data"),
        _ => meaning(Kind::Unknown, "the source has the details"),
    }
}

/// The code that an HTTP status stands for, where there is no better one.
fn code_of_http(status: u16) -> Option<Code> {
    Some(match status {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::AlreadyExists,
        412 => Code::FailedPrecondition,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        501 => Code::Unimplemented,
        500..=599 => Code::Unavailable,
        _ => return None,
    })
}

/// The error of a call about `what`, without its source.
fn describe(operation: Operation, what: &str, error: &SdkError) -> Error {
    let failed = |kind, text: &str| operation.error(kind, format!("{what}: {text}"));
    if let Some(status) = error.status() {
        let found = classify(operation, status.code, &status.message);
        let text = format!("{} ({}: {})", found.hint, status.code, status.message);
        let mapped = failed(found.kind, &text).with_retryable(found.retry);
        return match retry_delay(&status.details) {
            Some(after) if found.retry => mapped.with_retry_after(after),
            _ => mapped,
        };
    }
    // Before the transport: credentials are fetched by HTTP, too.
    if error.is_authentication() {
        let is_passing =
            find::<CredentialsError>(error).is_some_and(CredentialsError::is_transient);
        return failed(
            ErrorKind::Unauthenticated,
            &format!(
                "Google's application default credentials gave no token ({}); run gcloud auth \
                 application-default login, or attach a service account",
                deepest(error)
            ),
        )
        .with_retryable(is_passing);
    }
    if let Some(status) = error.http_status_code() {
        if status == 413 {
            return failed(ErrorKind::TooLarge, "the request is too large (HTTP 413)");
        }
        if let Some(code) = code_of_http(status) {
            let found = classify(operation, code, "");
            return failed(found.kind, &format!("{} (HTTP {status})", found.hint))
                .with_retryable(found.retry);
        }
    }
    if error.is_timeout() {
        return failed(
            ErrorKind::Timeout,
            "Pub/Sub did not answer in time; whether the call took effect is unknown",
        );
    }
    if error.is_exhausted()
        && let Some(inner) = error.source().and_then(find::<SdkError>)
    {
        return describe(operation, what, inner);
    }
    if error.is_connect() || error.is_io() || error.is_transport() {
        return failed(
            ErrorKind::Unavailable,
            &format!(
                "no connection to Pub/Sub ({}); check endpoint and network",
                deepest(error)
            ),
        );
    }
    failed(
        ErrorKind::Unknown,
        &format!("the call could not be made or understood: {error}"),
    )
}

fn retry_delay(details: &[StatusDetails]) -> Option<Duration> {
    details.iter().find_map(|detail| match detail {
        StatusDetails::RetryInfo(info) => Duration::try_from(info.retry_delay?).ok(),
        _ => None,
    })
}

/// The error of a call about `what`.
pub(crate) fn of_call(operation: Operation, what: &str, error: SdkError) -> Error {
    describe(operation, what, &error).with_source(error)
}

/// The error of a message that was not published to `topic`.
pub(crate) fn of_publish(topic: &str, error: PublishError) -> Error {
    let mapped = match &error {
        PublishError::Rpc(error) => describe(Operation::Send, topic, error),
        PublishError::OrderingKeyPaused => not_in_turn(topic, true),
        PublishError::Shutdown => Operation::Send.closed(),
        _ => Operation::Send.error(ErrorKind::Unknown, format!("{topic}: {error}")),
    };
    mapped.with_source(error)
}

/// The error of a message that was not sent because an earlier one of its key failed.
pub(crate) fn not_in_turn(topic: &str, may_retry: bool) -> Error {
    Operation::Send
        .error(
            ErrorKind::Unavailable,
            format!(
                "{topic}: not sent, because an earlier message of the same ordering key failed"
            ),
        )
        .with_retryable(may_retry)
}

/// The error of a message whose ack was not confirmed.
pub(crate) fn of_ack(subscription: &str, error: AckError) -> Error {
    let operation = Operation::Ack;
    let mapped = match &error {
        AckError::LeaseExpired | AckError::ShutdownBeforeAck => operation.lease_lost(),
        AckError::Rpc { source, .. } => {
            // The client library has tried again for as long as it makes sense, and has let the
            // message go.
            describe(operation, subscription, source).with_retryable(false)
        }
        AckError::Shutdown(_) => operation.error(
            ErrorKind::Unknown,
            format!(
                "{subscription}: the consumer was closed while the ack was on its way; the \
                 message may be delivered again"
            ),
        ),
        _ => operation.error(ErrorKind::Unknown, format!("{subscription}: {error}")),
    };
    mapped.with_source(error)
}

/// The error of a client that could not be made.
pub(crate) fn of_builder(error: client_builder::Error) -> Error {
    let mapped = if error.is_default_credentials() {
        no_credentials(&error)
    } else if error.is_universe_domain_mismatch() {
        invalid_config(format!(
            "{error}; set universe=DOMAIN to that of the credentials"
        ))
    } else {
        invalid_config(format!(
            "no client could be made: {}; check the endpoint",
            deepest(&error)
        ))
    };
    mapped.with_source(error)
}

/// The error of credentials that are not there.
pub(crate) fn no_credentials(error: &(dyn StdError + 'static)) -> Error {
    Operation::Open.error(
        ErrorKind::Unauthenticated,
        format!(
            "there are no application default credentials ({}); run gcloud auth \
             application-default login, set GOOGLE_APPLICATION_CREDENTIALS, or run where a service \
             account is attached",
            deepest(error)
        ),
    )
}

/// `error` and its sources.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| StdError::source(*error))
}

/// The first `T` among `error` and its sources.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// What the last of the sources says.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
