use std::sync::Arc;

use google_cloud_gax::error::rpc::Status;

use super::*;
use ErrorKind as Kind;
use Operation::{Ack, Delete, Ensure, Inspect, Nack, Open, Purge, Receive, Send};

/// Code and operation; kind and whether a retry makes sense.
const TABLE: &[(Code, Operation, Kind, bool)] = &[
    (Code::Ok, Send, Kind::Unknown, false),
    (Code::Cancelled, Send, Kind::Unavailable, true),
    (Code::Cancelled, Receive, Kind::Unavailable, true),
    (Code::Unknown, Send, Kind::Unknown, true),
    (Code::Unknown, Receive, Kind::Unknown, true),
    (Code::Unknown, Ensure, Kind::Unknown, false),
    (Code::InvalidArgument, Send, Kind::InvalidMessage, false),
    (Code::InvalidArgument, Open, Kind::InvalidConfig, false),
    (Code::InvalidArgument, Ensure, Kind::InvalidConfig, false),
    (Code::InvalidArgument, Receive, Kind::InvalidConfig, false),
    (Code::InvalidArgument, Ack, Kind::LeaseLost, false),
    (Code::InvalidArgument, Nack, Kind::LeaseLost, false),
    (Code::DeadlineExceeded, Send, Kind::Timeout, true),
    (Code::DeadlineExceeded, Inspect, Kind::Timeout, true),
    (Code::NotFound, Send, Kind::NotFound, false),
    (Code::NotFound, Receive, Kind::NotFound, false),
    (Code::NotFound, Delete, Kind::NotFound, false),
    (Code::AlreadyExists, Ensure, Kind::InvalidConfig, false),
    (Code::PermissionDenied, Send, Kind::PermissionDenied, false),
    (
        Code::PermissionDenied,
        Receive,
        Kind::PermissionDenied,
        false,
    ),
    (Code::ResourceExhausted, Send, Kind::Throttled, true),
    (Code::ResourceExhausted, Purge, Kind::Throttled, true),
    (Code::FailedPrecondition, Send, Kind::InvalidConfig, false),
    (
        Code::FailedPrecondition,
        Receive,
        Kind::InvalidConfig,
        false,
    ),
    (Code::FailedPrecondition, Ack, Kind::LeaseLost, false),
    (Code::Aborted, Send, Kind::Unavailable, true),
    (Code::OutOfRange, Send, Kind::InvalidMessage, false),
    (Code::OutOfRange, Purge, Kind::InvalidConfig, false),
    (Code::Unimplemented, Purge, Kind::Unsupported, false),
    (Code::Internal, Send, Kind::Unavailable, true),
    (Code::Unavailable, Send, Kind::Unavailable, true),
    (Code::Unavailable, Open, Kind::Unavailable, true),
    (Code::DataLoss, Receive, Kind::Unknown, false),
    (Code::Unauthenticated, Send, Kind::Unauthenticated, false),
];

fn service(code: Code, message: &str) -> SdkError {
    SdkError::service(Status::default().set_code(code).set_message(message))
}

fn http(status: u16) -> SdkError {
    SdkError::http(status, Default::default(), bytes::Bytes::new())
}

#[test]
fn every_status_is_mapped() {
    for number in 0..=16 {
        let code = Code::from(number);
        assert!(
            TABLE.iter().any(|(listed, ..)| *listed == code),
            "{code} is not in the table"
        );
    }
    for (code, operation, kind, retry) in TABLE {
        let error = of_call(*operation, "topic orders", service(*code, "why"));
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (*kind, *retry),
            "{code} of {operation:?}"
        );
        assert_eq!(error.backend(), Some("pubsub"));
        assert_eq!(error.operation(), Some(operation.name()));
        for part in ["topic orders", "why", code.name()] {
            assert!(error.message().contains(part), "{error}");
        }
        assert!(error.source().is_some_and(|source| source.is::<SdkError>()));
    }
}

#[test]
fn every_http_status_is_mapped() {
    for (status, kind, retry) in [
        (400, Kind::InvalidConfig, false),
        (401, Kind::Unauthenticated, false),
        (403, Kind::PermissionDenied, false),
        (404, Kind::NotFound, false),
        (408, Kind::Timeout, true),
        (409, Kind::InvalidConfig, false),
        (412, Kind::InvalidConfig, false),
        (413, Kind::TooLarge, false),
        (429, Kind::Throttled, true),
        (499, Kind::Unavailable, true),
        (500, Kind::Unavailable, true),
        (501, Kind::Unsupported, false),
        (502, Kind::Unavailable, true),
        (503, Kind::Unavailable, true),
        (504, Kind::Timeout, true),
    ] {
        let error = of_call(Inspect, "topic orders", http(status));
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (kind, retry),
            "{status}"
        );
        assert!(error.message().contains(&status.to_string()), "{error}");
    }
}

#[test]
fn what_never_reached_the_service_is_told_apart() {
    let io = || std::io::Error::other("connection refused");
    for (error, kind, retry) in [
        (SdkError::timeout(io()), Kind::Timeout, true),
        (SdkError::io(io()), Kind::Unavailable, true),
        (SdkError::connect(io()), Kind::Unavailable, true),
        (
            SdkError::transport(Default::default(), io()),
            Kind::Unavailable,
            true,
        ),
        (
            SdkError::exhausted(service(Code::ResourceExhausted, "quota")),
            Kind::Throttled,
            true,
        ),
        (
            SdkError::authentication(CredentialsError::from_msg(true, "metadata server")),
            Kind::Unauthenticated,
            true,
        ),
        (
            SdkError::authentication(CredentialsError::from_msg(false, "revoked")),
            Kind::Unauthenticated,
            false,
        ),
        (SdkError::ser(io()), Kind::Unknown, false),
    ] {
        let shown = error.to_string();
        let error = of_call(Send, "topic orders", error);
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (kind, retry),
            "{shown}"
        );
    }
    let error = of_call(Send, "topic orders", SdkError::connect(io()));
    assert!(error.message().contains("connection refused"), "{error}");
}

#[test]
fn a_request_that_is_too_large_is_told_apart_from_an_invalid_one() {
    let text = "Request payload size exceeds the limit: 10485760 bytes.";
    let error = of_call(Send, "topic orders", service(Code::InvalidArgument, text));
    assert_eq!(error.kind(), Kind::TooLarge);
}

#[test]
fn what_the_publisher_reports_is_mapped() {
    let rpc = || Arc::new(service(Code::NotFound, "no topic"));
    for (error, kind, retry) in [
        (PublishError::Rpc(rpc()), Kind::NotFound, false),
        (PublishError::OrderingKeyPaused, Kind::Unavailable, true),
        (PublishError::Shutdown, Kind::Closed, false),
    ] {
        let mapped = of_publish("topic orders", error);
        assert_eq!((mapped.kind(), mapped.is_retryable()), (kind, retry));
        assert!(
            mapped
                .source()
                .is_some_and(|source| source.is::<PublishError>())
        );
    }
    assert!(!not_in_turn("topic orders", false).is_retryable());
}

#[test]
fn what_a_confirmed_ack_reports_is_mapped() {
    for (error, kind) in [
        (AckError::LeaseExpired, Kind::LeaseLost),
        (AckError::ShutdownBeforeAck, Kind::LeaseLost),
        (AckError::Shutdown("closing".into()), Kind::Unknown),
    ] {
        let mapped = of_ack("subscription orders", error);
        assert_eq!((mapped.kind(), mapped.is_retryable()), (kind, false));
    }
}
