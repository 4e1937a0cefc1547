//! What SQS and its SDK report, as towpath errors. One table, by error code.

use std::{error::Error as StdError, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use towpath_core::{Error, ErrorKind};

/// The name of this backend in errors.
pub(crate) const BACKEND: &str = "sqs";

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
    MoveTask,
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
            Self::MoveTask => "move task",
        }
    }

    /// An error of this operation.
    pub(crate) fn error(self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message)
            .with_backend(BACKEND)
            .with_operation(self.name())
    }

    /// The error of a call about `queue` that was given up.
    pub(crate) fn timed_out(self, queue: &str, after: Duration) -> Error {
        self.error(
            ErrorKind::Timeout,
            format!(
                "queue {queue}: SQS did not answer within {}; whether the call took effect is \
                 unknown",
                humantime::format_duration(after)
            ),
        )
    }

    fn settles(self) -> bool {
        matches!(self, Self::Ack | Self::Nack | Self::Extend)
    }
}

/// An error about the configuration, before any call.
pub(crate) fn invalid_config(message: impl Into<String>) -> Error {
    Operation::Open.error(ErrorKind::InvalidConfig, message)
}

/// What an error code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    kind: ErrorKind,
    /// What to do about it.
    hint: &'static str,
    retry: Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// As the kind says.
    AsKind,
    /// The same call may succeed later.
    Yes,
    /// Not before this many seconds.
    After(u64),
}

fn meaning(kind: ErrorKind, hint: &'static str) -> Meaning {
    Meaning {
        kind,
        hint,
        retry: Retry::AsKind,
    }
}

/// The table: a code as SQS, its predecessors and the local servers spell it, and the operation.
///
/// Codes come without the prefixes that [`normalize`] removes. The message only decides where SQS
/// puts different failures under one code.
fn classify(operation: Operation, code: &str, message: &str) -> Option<Meaning> {
    use ErrorKind as Kind;
    Some(match code {
        "QueueDoesNotExist" | "NonExistentQueue" | "ResourceNotFoundException" => meaning(
            Kind::NotFound,
            "check name, region and account, or create the queue",
        ),
        "QueueDeletedRecently" => Meaning {
            retry: Retry::After(60),
            ..meaning(
                Kind::Unavailable,
                "a queue of this name was deleted just now; SQS wants 60 s in between",
            )
        },
        "QueueNameExists" | "QueueAlreadyExists" => meaning(
            Kind::InvalidConfig,
            "the queue exists with other settings; run ensure again",
        ),

        "AccessDenied" | "AccessDeniedException" | "AuthorizationError" => meaning(
            Kind::PermissionDenied,
            "allow the action in the IAM policy and in the queue's own policy",
        ),
        "KmsAccessDenied" | "KMS.AccessDeniedException" => meaning(
            Kind::PermissionDenied,
            "allow kms:GenerateDataKey and kms:Decrypt on the queue's key",
        ),
        "KmsOptInRequired" | "KMS.OptInRequired" | "OptInRequired" | "OptInRequiredException" => {
            meaning(
                Kind::PermissionDenied,
                "the account has not signed up for this service",
            )
        }
        "KmsDisabled" | "KMS.DisabledException" => meaning(
            Kind::Unavailable,
            "the queue's KMS key is disabled; enable it",
        ),
        "KmsInvalidState" | "KMSInvalidStateException" | "KMS.InvalidStateException" => meaning(
            Kind::Unavailable,
            "the queue's KMS key is not usable as it is, for instance pending deletion",
        ),
        "KmsNotFound" | "KMS.NotFoundException" => meaning(
            Kind::InvalidConfig,
            "the queue's KMS key does not exist; choose another",
        ),
        "KmsInvalidKeyUsage" | "KMS.InvalidKeyUsageException" => meaning(
            Kind::InvalidConfig,
            "the queue's KMS key cannot encrypt; choose another",
        ),
        "KmsThrottled" | "KMS.ThrottlingException" => {
            meaning(Kind::Throttled, "KMS asks to slow down")
        }

        "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "UnrecognizedClientException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "NotAuthorized"
        | "NotSignedUp"
        | "InvalidSecurity" => meaning(
            Kind::Unauthenticated,
            "AWS does not accept the credentials; check where they come from",
        ),
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => skewed(),
        "SignatureDoesNotMatch" | "InvalidSignatureException" | "AuthFailure" => {
            let message = message.to_ascii_lowercase();
            if message.contains("expired") || message.contains("not yet current") {
                skewed()
            } else {
                meaning(
                    Kind::Unauthenticated,
                    "the signature is not right; check the secret key",
                )
            }
        }
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Meaning {
            retry: Retry::Yes,
            ..meaning(
                Kind::Unauthenticated,
                "the credentials have expired; sign in again, or check what renews them",
            )
        },

        "RequestThrottled"
        | "RequestThrottledException"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "LimitExceededException"
        | "SlowDown"
        | "PriorRequestNotComplete" => meaning(Kind::Throttled, "SQS asks to slow down"),
        "OverLimit" if operation == Operation::Receive => meaning(
            Kind::Throttled,
            "too many messages of the queue are in flight; settle some first",
        ),
        "OverLimit" => meaning(Kind::Throttled, "a limit of SQS is reached"),
        "PurgeQueueInProgress" => Meaning {
            retry: Retry::After(60),
            ..meaning(
                Kind::Throttled,
                "a queue can be purged once in 60 s, and a purge is under way",
            )
        },

        "ReceiptHandleIsInvalid" | "InvalidIdFormat" | "MessageNotInflight" => meaning(
            Kind::LeaseLost,
            "the lease ran out, or the message was settled before; another consumer may have it",
        ),
        "InvalidParameterValue"
        | "InvalidParameterValueException"
        | "ValidationError"
        | "ValidationException" => parameter(operation, message),
        "MissingParameter" | "MissingRequiredParameterException" => parameter(operation, message),
        "InvalidMessageContents" => meaning(
            Kind::InvalidMessage,
            "the message has characters that SQS does not carry",
        ),
        "InvalidAttributeName" | "InvalidAttributeValue" if operation == Operation::Send => {
            parameter(operation, message)
        }
        "BatchRequestTooLong" | "MessageTooLong" | "RequestEntityTooLarge" => meaning(
            Kind::TooLarge,
            "the messages of one request are too large together",
        ),
        "InvalidAttributeName" | "InvalidAttributeValue" => meaning(
            Kind::InvalidConfig,
            "SQS does not accept a setting of the queue",
        ),
        "InvalidAddress" => meaning(
            Kind::InvalidConfig,
            "SQS does not know the queue's URL; check region and endpoint",
        ),
        "UnsupportedOperation" | "InvalidAction" | "UnknownOperationException" => meaning(
            Kind::Unsupported,
            "this queue, or this server, cannot do that",
        ),
        // Each of these would be a mistake of this crate.
        "TooManyEntriesInBatchRequest"
        | "EmptyBatchRequest"
        | "BatchEntryIdsNotDistinct"
        | "InvalidBatchEntryId" => meaning(
            Kind::Unknown,
            "the request was not made as SQS wants it; please report this",
        ),

        "RequestTimeout" | "RequestTimeoutException" => {
            meaning(Kind::Timeout, "whether the call took effect is unknown")
        }
        "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalServiceError"
        | "ServiceFailure" => meaning(Kind::Unavailable, "SQS is not available just now"),
        _ => return None,
    })
}

/// The SDK notes the offset of the clocks with each answer, so the next call can be right.
fn skewed() -> Meaning {
    Meaning {
        retry: Retry::Yes,
        ..meaning(
            ErrorKind::Unauthenticated,
            "the clock of this machine is wrong; set it",
        )
    }
}

/// `InvalidParameterValue` stands for many things.
fn parameter(operation: Operation, message: &str) -> Meaning {
    use ErrorKind as Kind;
    let message = message.to_ascii_lowercase();
    let has = |part: &str| message.contains(part);
    match operation {
        Operation::Nack | Operation::Extend
            if has("total visibilitytimeout")
                || has("total visibility timeout")
                || has("must be between 0 and 43200") =>
        {
            meaning(
                Kind::Unsupported,
                "a message can be held and delayed for 12 h in all since it was received",
            )
        }
        _ if operation.settles() => meaning(
            Kind::LeaseLost,
            "the lease ran out, or the message was settled before; another consumer may have it",
        ),
        Operation::Send
            if has("must be shorter than") || has("exceeds the maximum") || has("toolong") =>
        {
            meaning(Kind::TooLarge, "send a smaller message")
        }
        Operation::Send => meaning(Kind::InvalidMessage, "SQS does not accept the message"),
        _ => meaning(Kind::InvalidConfig, "SQS does not accept a parameter"),
    }
}

/// The code without the prefixes and suffixes that its spellings differ in.
fn normalize(code: &str) -> &str {
    let code = code.rsplit_once('#').map_or(code, |(_, code)| code);
    let code = code.split_once(':').map_or(code, |(code, _)| code);
    code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code)
}

/// The meaning of an HTTP status, where the code says nothing.
fn by_status(status: u16) -> Meaning {
    use ErrorKind as Kind;
    match status {
        ..=399 => meaning(
            Kind::Unavailable,
            "the answer is not one of SQS; check the endpoint, and what stands in between",
        ),
        401 => meaning(Kind::Unauthenticated, "check the credentials"),
        403 => meaning(Kind::PermissionDenied, "check the permissions"),
        408 | 504 => meaning(Kind::Timeout, "whether the call took effect is unknown"),
        413 => meaning(Kind::TooLarge, "send less in one request"),
        429 => meaning(Kind::Throttled, "SQS asks to slow down"),
        500.. => meaning(Kind::Unavailable, "SQS is not available just now"),
        _ => meaning(Kind::Unknown, "the source has the details"),
    }
}

/// The error of one entry of a batch.
pub(crate) fn of_entry(
    operation: Operation,
    queue: &str,
    code: &str,
    message: Option<&str>,
    is_sender_fault: bool,
) -> Error {
    let message = message.unwrap_or_default();
    let found = classify(operation, normalize(code), message).unwrap_or(if is_sender_fault {
        meaning(ErrorKind::Unknown, "SQS refuses this entry")
    } else {
        meaning(ErrorKind::Unavailable, "SQS failed on this entry")
    });
    build(operation, queue, found, Some(code), message)
}

fn build(
    operation: Operation,
    queue: &str,
    found: Meaning,
    code: Option<&str>,
    message: &str,
) -> Error {
    let mut text = format!("queue {queue}: {}", found.hint);
    if let Some(code) = code {
        text = format!("{text} ({code}");
        if !message.is_empty() {
            text = format!("{text}: {message}");
        }
        text.push(')');
    }
    let error = operation.error(found.kind, text);
    match found.retry {
        Retry::AsKind => error,
        Retry::Yes => error.with_retryable(true),
        Retry::After(seconds) => error.with_retry_after(Duration::from_secs(seconds)),
    }
}

/// The error of a whole call.
pub(crate) fn of_call<E>(
    operation: Operation,
    queue: &str,
    error: SdkError<E, HttpResponse>,
) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let failed = |kind, text: &str| operation.error(kind, format!("queue {queue}: {text}"));
    let mapped = match &error {
        SdkError::ServiceError(context) => {
            let (service, response) = (context.err(), context.raw());
            let message = service.message().unwrap_or_default();
            let found = service
                .code()
                .and_then(|code| classify(operation, normalize(code), message))
                .unwrap_or_else(|| by_status(response.status().as_u16()));
            let mapped = build(operation, queue, found, service.code(), message);
            match retry_after(response) {
                Some(after) if mapped.is_retryable() => mapped.with_retry_after(after),
                _ => mapped,
            }
        }
        SdkError::ResponseError(context) => {
            let status = context.raw().status().as_u16();
            build(operation, queue, by_status(status), None, "")
        }
        SdkError::TimeoutError(_) => failed(
            ErrorKind::Timeout,
            "SQS did not answer in time; whether the call took effect is unknown",
        ),
        SdkError::DispatchFailure(failure) => {
            if let Some(credentials) = find::<CredentialsError>(&error) {
                of_credentials(operation, credentials)
            } else if failure.is_timeout() {
                failed(
                    ErrorKind::Timeout,
                    "no connection to SQS in time; check region, endpoint and network",
                )
            } else if failure.is_user() {
                failed(
                    ErrorKind::InvalidConfig,
                    "the request could not be made; check the endpoint",
                )
            } else {
                failed(
                    ErrorKind::Unavailable,
                    "no connection to SQS; check region, endpoint and network",
                )
            }
        }
        SdkError::ConstructionFailure(_) => match find::<CredentialsError>(&error) {
            Some(credentials) => of_credentials(operation, credentials),
            None => failed(
                ErrorKind::InvalidConfig,
                &format!(
                    "the request could not be made: {}",
                    deepest(&error).unwrap_or_default()
                ),
            ),
        },
        _ => failed(ErrorKind::Unknown, "the source has the details"),
    };
    mapped.with_source(error)
}

fn of_credentials(operation: Operation, error: &CredentialsError) -> Error {
    let text = match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            "there are no AWS credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, or run where a role is attached"
        }
        CredentialsError::InvalidConfiguration(_) => {
            "the AWS configuration is wrong; check the files in ~/.aws and the profile"
        }
        CredentialsError::ProviderTimedOut(_) => "no AWS credentials came in time",
        _ => "the AWS credentials could not be had; sign in again, or check what provides them",
    };
    let is_passing = matches!(
        error,
        CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_)
    );
    operation
        .error(ErrorKind::Unauthenticated, text)
        .with_retryable(is_passing)
}

/// The time that the service asked for, in either of its headers.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let header = |name| response.headers().get(name)?.trim().parse::<u64>().ok();
    header("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| header("retry-after").map(Duration::from_secs))
}

/// The first `T` among the sources of `error`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn deepest(error: &dyn StdError) -> Option<String> {
    let mut last = error.source()?;
    while let Some(next) = last.source() {
        last = next;
    }
    Some(last.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind as Kind;

    /// Code, operation, message; kind and whether a retry makes sense.
    const TABLE: &[(&str, Operation, &str, Kind, bool)] = &[
        (
            "QueueDoesNotExist",
            Operation::Open,
            "",
            Kind::NotFound,
            false,
        ),
        (
            "AWS.SimpleQueueService.NonExistentQueue",
            Operation::Send,
            "",
            Kind::NotFound,
            false,
        ),
        (
            "com.amazonaws.sqs#QueueDoesNotExist",
            Operation::Receive,
            "",
            Kind::NotFound,
            false,
        ),
        (
            "ResourceNotFoundException",
            Operation::MoveTask,
            "",
            Kind::NotFound,
            false,
        ),
        (
            "AWS.SimpleQueueService.QueueDeletedRecently",
            Operation::Ensure,
            "",
            Kind::Unavailable,
            true,
        ),
        (
            "QueueAlreadyExists",
            Operation::Ensure,
            "",
            Kind::InvalidConfig,
            false,
        ),
        (
            "QueueNameExists",
            Operation::Ensure,
            "",
            Kind::InvalidConfig,
            false,
        ),
        (
            "AccessDenied",
            Operation::Send,
            "",
            Kind::PermissionDenied,
            false,
        ),
        (
            "AccessDeniedException",
            Operation::Send,
            "",
            Kind::PermissionDenied,
            false,
        ),
        (
            "KmsAccessDenied",
            Operation::Receive,
            "",
            Kind::PermissionDenied,
            false,
        ),
        (
            "KMS.AccessDeniedException",
            Operation::Receive,
            "",
            Kind::PermissionDenied,
            false,
        ),
        (
            "KmsOptInRequired",
            Operation::Receive,
            "",
            Kind::PermissionDenied,
            false,
        ),
        ("KmsDisabled", Operation::Send, "", Kind::Unavailable, true),
        (
            "KMS.DisabledException",
            Operation::Send,
            "",
            Kind::Unavailable,
            true,
        ),
        (
            "KmsInvalidState",
            Operation::Send,
            "",
            Kind::Unavailable,
            true,
        ),
        (
            "KmsNotFound",
            Operation::Send,
            "",
            Kind::InvalidConfig,
            false,
        ),
        (
            "KmsInvalidKeyUsage",
            Operation::Send,
            "",
            Kind::InvalidConfig,
            false,
        ),
        ("KmsThrottled", Operation::Send, "", Kind::Throttled, true),
        (
            "KMS.ThrottlingException",
            Operation::Send,
            "",
            Kind::Throttled,
            true,
        ),
        (
            "InvalidClientTokenId",
            Operation::Open,
            "",
            Kind::Unauthenticated,
            false,
        ),
        (
            "UnrecognizedClientException",
            Operation::Open,
            "",
            Kind::Unauthenticated,
            false,
        ),
        (
            "MissingAuthenticationToken",
            Operation::Open,
            "",
            Kind::Unauthenticated,
            false,
        ),
        (
            "InvalidSecurity",
            Operation::Open,
            "",
            Kind::Unauthenticated,
            false,
        ),
        (
            "RequestTimeTooSkewed",
            Operation::Send,
            "",
            Kind::Unauthenticated,
            true,
        ),
        (
            "InvalidSignatureException",
            Operation::Send,
            "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z",
            Kind::Unauthenticated,
            true,
        ),
        (
            "SignatureDoesNotMatch",
            Operation::Send,
            "Signature not yet current",
            Kind::Unauthenticated,
            true,
        ),
        (
            "SignatureDoesNotMatch",
            Operation::Send,
            "The request signature we calculated does not match",
            Kind::Unauthenticated,
            false,
        ),
        (
            "ExpiredToken",
            Operation::Send,
            "",
            Kind::Unauthenticated,
            true,
        ),
        (
            "ExpiredTokenException",
            Operation::Send,
            "",
            Kind::Unauthenticated,
            true,
        ),
        (
            "RequestThrottled",
            Operation::Send,
            "",
            Kind::Throttled,
            true,
        ),
        (
            "ThrottlingException",
            Operation::Send,
            "",
            Kind::Throttled,
            true,
        ),
        (
            "AWS.SimpleQueueService.OverLimit",
            Operation::Receive,
            "",
            Kind::Throttled,
            true,
        ),
        ("OverLimit", Operation::Ensure, "", Kind::Throttled, true),
        (
            "PurgeQueueInProgress",
            Operation::Purge,
            "",
            Kind::Throttled,
            true,
        ),
        (
            "AWS.SimpleQueueService.PurgeQueueInProgress",
            Operation::Purge,
            "",
            Kind::Throttled,
            true,
        ),
        (
            "ReceiptHandleIsInvalid",
            Operation::Ack,
            "",
            Kind::LeaseLost,
            false,
        ),
        (
            "ReceiptHandleIsInvalid",
            Operation::Ack,
            "The receipt handle has expired",
            Kind::LeaseLost,
            false,
        ),
        (
            "MessageNotInflight",
            Operation::Nack,
            "",
            Kind::LeaseLost,
            false,
        ),
        (
            "AWS.SimpleQueueService.MessageNotInflight",
            Operation::Extend,
            "",
            Kind::LeaseLost,
            false,
        ),
        (
            "InvalidIdFormat",
            Operation::Ack,
            "",
            Kind::LeaseLost,
            false,
        ),
        (
            "InvalidParameterValue",
            Operation::Ack,
            "Value x for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
            Kind::LeaseLost,
            false,
        ),
        (
            "InvalidParameterValue",
            Operation::Nack,
            "Reason: Message does not exist or is not available for visibility timeout change.",
            Kind::LeaseLost,
            false,
        ),
        (
            "InvalidParameterValue",
            Operation::Nack,
            "Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds].",
            Kind::Unsupported,
            false,
        ),
        (
            "InvalidParameterValue",
            Operation::Extend,
            "Value 43201 for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200, if provided.",
            Kind::Unsupported,
            false,
        ),
        (
            "InvalidParameterValue",
            Operation::Send,
            "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.",
            Kind::TooLarge,
            false,
        ),
        (
            "InvalidParameterValue",
            Operation::Send,
            "The message attribute name is invalid",
            Kind::InvalidMessage,
            false,
        ),
        (
            "InvalidParameterValue",
            Operation::Ensure,
            "",
            Kind::InvalidConfig,
            false,
        ),
        (
            "MissingParameter",
            Operation::Send,
            "The request must contain the parameter MessageGroupId.",
            Kind::InvalidMessage,
            false,
        ),
        (
            "InvalidMessageContents",
            Operation::Send,
            "",
            Kind::InvalidMessage,
            false,
        ),
        (
            "AWS.SimpleQueueService.BatchRequestTooLong",
            Operation::Send,
            "",
            Kind::TooLarge,
            false,
        ),
        (
            "InvalidAttributeValue",
            Operation::Send,
            "MessageTooLong",
            Kind::TooLarge,
            false,
        ),
        (
            "InvalidAttributeName",
            Operation::Ensure,
            "",
            Kind::InvalidConfig,
            false,
        ),
        (
            "InvalidAttributeValue",
            Operation::Ensure,
            "",
            Kind::InvalidConfig,
            false,
        ),
        (
            "InvalidAddress",
            Operation::Receive,
            "",
            Kind::InvalidConfig,
            false,
        ),
        (
            "AWS.SimpleQueueService.UnsupportedOperation",
            Operation::MoveTask,
            "",
            Kind::Unsupported,
            false,
        ),
        (
            "TooManyEntriesInBatchRequest",
            Operation::Send,
            "",
            Kind::Unknown,
            false,
        ),
        (
            "EmptyBatchRequest",
            Operation::Send,
            "",
            Kind::Unknown,
            false,
        ),
        (
            "BatchEntryIdsNotDistinct",
            Operation::Send,
            "",
            Kind::Unknown,
            false,
        ),
        (
            "InvalidBatchEntryId",
            Operation::Send,
            "",
            Kind::Unknown,
            false,
        ),
        ("RequestTimeout", Operation::Send, "", Kind::Timeout, true),
        (
            "ServiceUnavailable",
            Operation::Send,
            "",
            Kind::Unavailable,
            true,
        ),
        (
            "InternalError",
            Operation::Send,
            "",
            Kind::Unavailable,
            true,
        ),
        (
            "InternalFailure",
            Operation::Ack,
            "",
            Kind::Unavailable,
            true,
        ),
    ];

    #[test]
    fn every_code_has_its_kind() {
        for (code, operation, message, kind, is_retryable) in TABLE {
            let error = of_entry(*operation, "orders", code, Some(message), true);
            assert_eq!(error.kind(), *kind, "{code} on {operation:?}: {message}");
            assert_eq!(error.is_retryable(), *is_retryable, "{code}");
            assert!(error.to_string().contains(code), "{error}");
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.backend(), Some("sqs"));
            assert_eq!(error.operation(), Some(operation.name()));
        }
    }

    #[test]
    fn codes_that_only_heal_with_time_say_when() {
        for code in ["QueueDeletedRecently", "PurgeQueueInProgress"] {
            let error = of_entry(Operation::Purge, "orders", code, None, true);
            assert_eq!(error.retry_after(), Some(Duration::from_secs(60)), "{code}");
        }
    }

    #[test]
    fn an_unknown_code_is_retried_only_when_the_fault_is_not_ours() {
        let ours = of_entry(
            Operation::Send,
            "orders",
            "Gone.Fishing",
            Some("later"),
            true,
        );
        assert_eq!((ours.kind(), ours.is_retryable()), (Kind::Unknown, false));
        let theirs = of_entry(
            Operation::Send,
            "orders",
            "Gone.Fishing",
            Some("later"),
            false,
        );
        assert_eq!(
            (theirs.kind(), theirs.is_retryable()),
            (Kind::Unavailable, true)
        );
        assert!(theirs.to_string().contains("Gone.Fishing: later"));
    }

    #[test]
    fn a_status_without_a_code_has_a_kind() {
        let table = [
            (200, Kind::Unavailable, true),
            (302, Kind::Unavailable, true),
            (400, Kind::Unknown, false),
            (401, Kind::Unauthenticated, false),
            (403, Kind::PermissionDenied, false),
            (408, Kind::Timeout, true),
            (413, Kind::TooLarge, false),
            (429, Kind::Throttled, true),
            (500, Kind::Unavailable, true),
            (503, Kind::Unavailable, true),
            (504, Kind::Timeout, true),
        ];
        for (status, kind, is_retryable) in table {
            let error = build(Operation::Send, "orders", by_status(status), None, "");
            assert_eq!(
                (error.kind(), error.is_retryable()),
                (kind, is_retryable),
                "{status}"
            );
        }
    }
}
