//! A refusal, in the form of RFC 9457.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer};

/// A refusal that says what was wrong, where, and what to do: `application/problem+json`
/// ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).
///
/// There is no `type`, which means `about:blank`: the title is that of the status, and `code` is
/// for programs.
///
/// ```
/// use http::StatusCode;
/// use towpath_webhook::Problem;
///
/// let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "schema", "it breaks the schema")
///     .with_error("/event-data/id", "it is not of type \"string\"");
/// assert_eq!(serde_json::to_value(&problem).unwrap(), serde_json::json!({
///     "title": "Unprocessable Entity",
///     "status": 422,
///     "code": "schema",
///     "detail": "it breaks the schema",
///     "errors": [{ "pointer": "/event-data/id", "detail": "it is not of type \"string\"" }],
/// }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
}

/// What is wrong with one place in a JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FieldError {
    /// Where: a JSON pointer, empty for the whole document.
    pub pointer: String,
    /// What.
    pub detail: String,
}

impl FieldError {
    /// What is wrong, and where.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

impl Problem {
    /// A problem: its status, its kind in `snake_case`, and what was wrong and what to do.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// Adds what is wrong with one place in the document that was sent.
    #[must_use]
    pub fn with_error(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError::new(pointer, detail));
        self
    }

    /// Adds what is wrong with several places.
    #[must_use]
    pub fn with_errors(mut self, errors: impl IntoIterator<Item = FieldError>) -> Self {
        self.errors.extend(errors);
        self
    }

    /// Adds a `Retry-After` header, in whole seconds, rounded up and at least 1.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The kind in `snake_case`, for programs and metrics.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What was wrong and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What is wrong with which places in the document that was sent.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [FieldError],
        }
        Body {
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: &self.errors,
        }
        .serialize(serializer)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, "application/problem+json", &self);
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            let seconds = HeaderValue::from(seconds.max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// A response with a JSON body, unless the status allows none.
pub(crate) fn json_response(
    status: StatusCode,
    content_type: &'static str,
    body: &impl Serialize,
) -> Response {
    if matches!(status.as_u16(), 100..=199 | 204 | 205 | 304) {
        return status.into_response();
    }
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(header::CONTENT_TYPE, content_type)], body).into_response(),
        Err(_) => status.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_has_status_media_type_and_retry_after_rounded_up() {
        for (after, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "full", "try later")
                .with_retry_after(Duration::from_millis(after));
            let response = problem.into_response();
            assert_eq!(response.status(), 503);
            assert_eq!(
                response.headers()["content-type"],
                "application/problem+json"
            );
            assert_eq!(response.headers()["retry-after"], seconds);
        }
        let huge = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate", "")
            .with_retry_after(Duration::from_secs(u64::MAX));
        assert_eq!(
            huge.into_response().headers()["retry-after"],
            u64::MAX.to_string()
        );
    }

    #[test]
    fn no_body_goes_with_a_status_that_allows_none() {
        let response = Problem::new(StatusCode::NO_CONTENT, "x", "y").into_response();
        assert!(!response.headers().contains_key("content-type"));
    }
}
