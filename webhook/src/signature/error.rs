//! Why a request was not believed.

use std::{fmt, time::Duration};

use http::HeaderName;

/// Why a request was not believed. It holds no key, no expected signature and nothing that the
/// sender wrote, so it can be logged and answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Something that the signature needs is not there.
    #[error("{0} is missing")]
    Missing(Place),
    /// Something is there more than once, so it is not clear which one counts.
    #[error("{0} is there more than once")]
    Duplicate(Place),
    /// Something is not in the form that the provider documents.
    #[error("{} {}", .0.place, .0.reason)]
    Malformed(Malformed),
    /// Rightly signed, but too long ago: a replay, a very late retry, or a wrong clock here.
    #[error("it was signed {age:?} ago, which is more than {tolerance:?}; is the clock right?")]
    Expired {
        /// How long ago.
        age: Duration,
        /// How long ago is accepted.
        tolerance: Duration,
    },
    /// Rightly signed, but for a time to come: a wrong clock here or there.
    #[error(
        "it was signed {ahead:?} in the future, which is more than {tolerance:?}; is the clock right?"
    )]
    NotYetValid {
        /// How far in the future.
        ahead: Duration,
        /// How far is accepted.
        tolerance: Duration,
    },
    /// No live key belongs to it: a forgery, a key that is not configured here, or a body
    /// that was changed on its way.
    #[error(
        "{0} belongs to none of the keys configured here, or the request was changed on its way"
    )]
    Mismatch(Place),
}

impl SignatureError {
    /// The kind in `snake_case`, for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Duplicate(_) => "duplicate",
            Self::Malformed(_) => "malformed",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Mismatch(_) => "mismatch",
        }
    }
}

/// What is not in the form that the provider documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where it stands.
    pub place: Place,
    /// What is wrong with it, to be read after the place: `is not UTF-8`.
    pub reason: &'static str,
}

/// Where in a request something stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// A header.
    Header(HeaderName),
    /// A field of the body, as a JSON pointer or the name of a form field.
    Field(&'static str),
    /// The body.
    Body,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header {name}"),
            Self::Field(name) => write!(f, "the field {name}"),
            Self::Body => f.write_str("the body"),
        }
    }
}

impl Place {
    pub(super) fn malformed(self, reason: &'static str) -> SignatureError {
        SignatureError::Malformed(Malformed {
            place: self,
            reason,
        })
    }
}
