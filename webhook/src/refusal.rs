//! Why a request is not accepted.

use std::{fmt, time::Duration};

use crate::{Answer, body::BodyError, schema::SchemaError, signature::SignatureError};

/// Why a request is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The body is too large, too slow, or of another media type.
    Body(BodyError),
    /// The signature is missing, malformed, wrong or too old.
    Signature(SignatureError),
    /// The signature was used for another body, or is so old that this is not known any more.
    Replayed,
    /// The body is not JSON or breaks the schema.
    Schema(SchemaError),
    /// It is nothing that the queue carries, for instance an empty body.
    NotCarried,
    /// Too many requests came; when to come again.
    RateLimited(Duration),
    /// It cannot be kept now; when to come again.
    Unavailable(Duration),
}

impl Refusal {
    /// Which answer of a [`Profile`](crate::Profile) it gets.
    pub fn answer(&self) -> Answer {
        match self {
            Self::Body(BodyError::TooLarge(_)) => Answer::TooLarge,
            Self::Body(BodyError::MediaType(_)) => Answer::MediaType,
            Self::Body(BodyError::TooSlow(_) | BodyError::Broken) => Answer::TooSlow,
            Self::Signature(error) => match error {
                SignatureError::Missing(_)
                | SignatureError::Duplicate(_)
                | SignatureError::Malformed(_) => Answer::Unsigned,
                SignatureError::Expired { .. }
                | SignatureError::NotYetValid { .. }
                | SignatureError::Mismatch(_) => Answer::Signature,
            },
            Self::Replayed => Answer::Replayed,
            Self::Schema(SchemaError::Invalid(_)) | Self::NotCarried => Answer::Schema,
            Self::Schema(SchemaError::NotJson { .. } | SchemaError::TooDeep(_)) => Answer::NotJson,
            Self::RateLimited(_) => Answer::RateLimited,
            Self::Unavailable(_) => Answer::Unavailable,
        }
    }

    /// The kind in `snake_case`, for metrics.
    pub fn as_str(&self) -> &'static str {
        match self.answer() {
            Answer::Accepted => "accepted",
            Answer::Unsigned => "unsigned",
            Answer::Signature => "signature",
            Answer::Replayed => "replayed",
            Answer::NotJson => "not_json",
            Answer::Schema => "schema",
            Answer::TooLarge => "too_large",
            Answer::MediaType => "media_type",
            Answer::TooSlow => "too_slow",
            Answer::RateLimited => "rate_limited",
            Answer::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Signature(error) => error.fmt(f),
            Self::Replayed => f.write_str("the signature was used before, for another body"),
            Self::Schema(SchemaError::Invalid(_)) => f.write_str("the body breaks the schema"),
            Self::Schema(error) => write!(f, "the body cannot be read: {error}"),
            Self::NotCarried => f.write_str("the queue does not carry it; is the body empty?"),
            Self::RateLimited(_) => f.write_str("too many requests; send it again later"),
            Self::Unavailable(_) => f.write_str("it cannot be accepted now; send it again later"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

impl From<SchemaError> for Refusal {
    fn from(error: SchemaError) -> Self {
        Self::Schema(error)
    }
}
