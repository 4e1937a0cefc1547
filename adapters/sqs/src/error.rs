//! What SQS and its SDK report, as towpath errors.

mod codes;

use std::{error::Error as StdError, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use towpath_core::{Error, ErrorKind};

use crate::operation::Operation;
use codes::{Meaning, Retry, by_status, classify, meaning, normalize};

/// An error about the configuration, before any call.
pub(crate) fn invalid_config(message: impl Into<String>) -> Error {
    Operation::Open.error(ErrorKind::InvalidConfig, message)
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

    /// Operation, code, message; kind, and whether a retry makes sense.
    const TABLE: &str = "
open | QueueDoesNotExist |  | not_found | -
send | AWS.SimpleQueueService.NonExistentQueue |  | not_found | -
receive | com.amazonaws.sqs#QueueDoesNotExist |  | not_found | -
move task | ResourceNotFoundException |  | not_found | -
ensure | AWS.SimpleQueueService.QueueDeletedRecently |  | unavailable | retry
ensure | QueueAlreadyExists |  | invalid_config | -
ensure | QueueNameExists |  | invalid_config | -
send | AccessDenied |  | permission_denied | -
send | AccessDeniedException |  | permission_denied | -
receive | KmsAccessDenied |  | permission_denied | -
receive | KMS.AccessDeniedException |  | permission_denied | -
receive | KmsOptInRequired |  | permission_denied | -
send | KmsDisabled |  | unavailable | retry
send | KMS.DisabledException |  | unavailable | retry
send | KmsInvalidState |  | unavailable | retry
send | KmsNotFound |  | invalid_config | -
send | KmsInvalidKeyUsage |  | invalid_config | -
send | KmsThrottled |  | throttled | retry
send | KMS.ThrottlingException |  | throttled | retry
open | InvalidClientTokenId |  | unauthenticated | -
open | UnrecognizedClientException |  | unauthenticated | -
open | MissingAuthenticationToken |  | unauthenticated | -
open | InvalidSecurity |  | unauthenticated | -
send | RequestTimeTooSkewed |  | unauthenticated | retry
send | InvalidSignatureException | Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z | unauthenticated | retry
send | SignatureDoesNotMatch | Signature not yet current | unauthenticated | retry
send | SignatureDoesNotMatch | The request signature we calculated does not match | unauthenticated | -
send | ExpiredToken |  | unauthenticated | retry
send | ExpiredTokenException |  | unauthenticated | retry
send | RequestThrottled |  | throttled | retry
send | ThrottlingException |  | throttled | retry
receive | AWS.SimpleQueueService.OverLimit |  | throttled | retry
ensure | OverLimit |  | throttled | retry
purge | PurgeQueueInProgress |  | throttled | retry
purge | AWS.SimpleQueueService.PurgeQueueInProgress |  | throttled | retry
ack | ReceiptHandleIsInvalid |  | lease_lost | -
ack | ReceiptHandleIsInvalid | The receipt handle has expired | lease_lost | -
nack | MessageNotInflight |  | lease_lost | -
extend | AWS.SimpleQueueService.MessageNotInflight |  | lease_lost | -
ack | InvalidIdFormat |  | lease_lost | -
ack | InvalidParameterValue | Value x for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired. | lease_lost | -
nack | InvalidParameterValue | Reason: Message does not exist or is not available for visibility timeout change. | lease_lost | -
nack | InvalidParameterValue | Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]. | unsupported | -
extend | InvalidParameterValue | Value 43201 for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200, if provided. | unsupported | -
send | InvalidParameterValue | One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes. | too_large | -
send | InvalidParameterValue | The message attribute name is invalid | invalid_message | -
ensure | InvalidParameterValue |  | invalid_config | -
send | MissingParameter | The request must contain the parameter MessageGroupId. | invalid_message | -
send | InvalidMessageContents |  | invalid_message | -
send | AWS.SimpleQueueService.BatchRequestTooLong |  | too_large | -
send | InvalidAttributeValue | MessageTooLong | too_large | -
ensure | InvalidAttributeName |  | invalid_config | -
ensure | InvalidAttributeValue |  | invalid_config | -
receive | InvalidAddress |  | invalid_config | -
move task | AWS.SimpleQueueService.UnsupportedOperation |  | unsupported | -
send | TooManyEntriesInBatchRequest |  | unknown | -
send | EmptyBatchRequest |  | unknown | -
send | BatchEntryIdsNotDistinct |  | unknown | -
send | InvalidBatchEntryId |  | unknown | -
send | RequestTimeout |  | timeout | retry
send | ServiceUnavailable |  | unavailable | retry
send | InternalError |  | unavailable | retry
ack | InternalFailure |  | unavailable | retry
";

    #[test]
    fn every_code_has_its_kind() {
        for line in TABLE.trim().lines() {
            let columns: Vec<_> = line.split('|').map(str::trim).collect();
            let [operation, code, message, kind, retry] = columns[..] else {
                panic!("{line}");
            };
            let all = Operation::ALL;
            let operation = all.iter().find(|one| one.name() == operation).unwrap();
            let error = of_entry(*operation, "orders", code, Some(message), true);
            assert_eq!(error.kind().as_str(), kind, "{line}");
            assert_eq!(error.is_retryable(), retry == "retry", "{line}");
            for part in ["orders", code, message] {
                assert!(error.message().contains(part), "{error}");
            }
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
