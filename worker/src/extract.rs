//! Extractors: what a [typed handler](crate::typed) can take from a message.
//!
//! | argument | value |
//! |---|---|
//! | [`Json<T>`](Json) | the body, decoded |
//! | [`String`], [`Bytes`] | the body, as text or as it is |
//! | [`State<T>`](State) | the state of [`typed_with`](crate::typed_with), or part of it |
//! | [`Attributes`] | the attributes |
//! | [`IdempotencyKey`] | the stable identity of the message |
//! | [`AttemptNumber`] | 1 is the first |
//! | [`OrderingKey`] | the ordering key |
//! | [`QueueName`] | where the message came from |
//! | [`Envelope`], [`Attempt`] | all of it |
//! | [`CancellationToken`] | cancelled when the lease is lost |
//! | [`Option<TraceContext>`](TraceContext) | the trace of the sender |
//!
//! An extractor of your own is a type with [`FromAttempt`]:
//!
//! ```
//! use towpath_core::{Attempt, Failure};
//! use towpath_worker::extract::FromAttempt;
//!
//! struct Tenant(String);
//!
//! impl<S> FromAttempt<S> for Tenant {
//!     fn from_attempt(attempt: &Attempt, _: &S) -> Result<Self, Failure> {
//!         match attempt.envelope().message.attributes().get("tenant") {
//!             Some(tenant) => Ok(Self(tenant.to_owned())),
//!             None => Err(Failure::permanent("the attribute \"tenant\" is missing")),
//!         }
//!     }
//! }
//! ```

use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use towpath_core::{Attempt, Attributes, Bytes, Envelope, Failure, FailureClass};
use uuid::Uuid;

use crate::TraceContext;

/// A type that is taken from a message, or from the state `S`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a message",
    label = "not an extractor",
    note = "for a body that is decoded, take `Json<{Self}>`",
    note = "other extractors are `State<S>`, `Bytes`, `String`, `Attributes`, `IdempotencyKey`, `AttemptNumber`, `Attempt`, ... (see `towpath_worker::extract`)"
)]
pub trait FromAttempt<S>: Sized {
    /// Takes the value.
    ///
    /// # Errors
    ///
    /// The failure of the attempt; permanent where another attempt would meet the same.
    fn from_attempt(attempt: &Attempt, state: &S) -> Result<Self, Failure>;
}

/// A part of the state `S`. Every state that can be cloned is a part of itself.
#[diagnostic::on_unimplemented(
    message = "the state of this handler has no `{Self}`",
    label = "the state is `{S}`",
    note = "`typed(function)` has the state `()`; pass another one with `typed_with(function, state)`",
    note = "for a part of the state, write `impl FromRef<{S}> for {Self}`"
)]
pub trait FromRef<S> {
    /// The part.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}

/// The state of [`typed_with`](crate::typed_with), or a [part](FromRef) of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct State<T>(pub T);

impl<S, T: FromRef<S>> FromAttempt<S> for State<T> {
    fn from_attempt(_: &Attempt, state: &S) -> Result<Self, Failure> {
        Ok(Self(T::from_ref(state)))
    }
}

/// The body, decoded from JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<S, T: DeserializeOwned> FromAttempt<S> for Json<T> {
    fn from_attempt(attempt: &Attempt, _: &S) -> Result<Self, Failure> {
        attempt.json().map(Self)
    }
}

/// The stable identity of the message. Send it as `Idempotency-Key` to systems that support one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub Uuid);

/// Which attempt this is: 1 is the first; `None` where the queue does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptNumber(pub Option<u32>);

/// The ordering key of the message, where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderingKey(pub Option<String>);

/// The name of the queue that the message came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueName(pub String);

macro_rules! extractor {
    ($type:ty, |$attempt:ident| $value:expr) => {
        impl<S> FromAttempt<S> for $type {
            fn from_attempt($attempt: &Attempt, _: &S) -> Result<Self, Failure> {
                Ok($value)
            }
        }
    };
}

extractor!(Attempt, |attempt| attempt.clone());
extractor!(Envelope, |attempt| attempt.envelope().clone());
extractor!(Bytes, |attempt| attempt.envelope().message.body().clone());
extractor!(Attributes, |attempt| {
    attempt.envelope().message.attributes().clone()
});
extractor!(CancellationToken, |attempt| attempt.cancellation().clone());
extractor!(IdempotencyKey, |attempt| {
    Self(attempt.envelope().message.idempotency_key())
});
extractor!(AttemptNumber, |attempt| Self(attempt.number()));
extractor!(OrderingKey, |attempt| {
    Self(attempt.envelope().message.ordering_key().map(str::to_owned))
});
extractor!(QueueName, |attempt| Self(attempt.queue().to_owned()));
extractor!(Option<TraceContext>, |attempt| {
    TraceContext::of(&attempt.envelope().message)
});

/// The body as text; permanent where it is not UTF-8.
impl<S> FromAttempt<S> for String {
    fn from_attempt(attempt: &Attempt, _: &S) -> Result<Self, Failure> {
        let body = attempt.envelope().message.body();
        match std::str::from_utf8(body) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(Failure::permanent_as(
                FailureClass::Undecodable,
                format_args!("the body is not text: {error}"),
            )),
        }
    }
}
