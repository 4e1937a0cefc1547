//! What SQS's error codes mean. One table.

use towpath_core::ErrorKind;

use crate::operation::Operation;

/// What an error code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) kind: ErrorKind,
    /// What to do about it.
    pub(super) hint: &'static str,
    pub(super) retry: Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// As the kind says.
    AsKind,
    /// The same call may succeed later.
    Yes,
    /// Not before this many seconds.
    After(u64),
}

pub(super) fn meaning(kind: ErrorKind, hint: &'static str) -> Meaning {
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
pub(super) fn classify(operation: Operation, code: &str, message: &str) -> Option<Meaning> {
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
pub(super) fn normalize(code: &str) -> &str {
    let code = code.rsplit_once('#').map_or(code, |(_, code)| code);
    let code = code.split_once(':').map_or(code, |(code, _)| code);
    code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code)
}

/// The meaning of an HTTP status, where the code says nothing.
pub(super) fn by_status(status: u16) -> Meaning {
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
