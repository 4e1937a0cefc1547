//! Requests of providers that ask whether somebody is there.

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use memchr::memmem;
use serde::Deserialize;
use serde_json::json;

use crate::problem::json_response;

/// The answer to a verified request that is no event: Slack's `url_verification` and GitHub's
/// `ping`.
///
/// <https://docs.slack.dev/reference/events/url_verification>,
/// <https://docs.github.com/en/webhooks/webhook-events-and-payloads#ping>
pub(super) fn answer(scheme: &str, headers: &HeaderMap, body: &[u8]) -> Option<Response> {
    match scheme {
        "slack" => challenge(body).map(|challenge| {
            let body = json!({ "challenge": challenge });
            json_response(StatusCode::OK, "application/json", &body)
        }),
        "github"
            if headers
                .get("x-github-event")
                .is_some_and(|event| event == "ping") =>
        {
            let body = json!({ "status": "pong" });
            Some(json_response(StatusCode::OK, "application/json", &body))
        }
        _ => None,
    }
}

fn challenge(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Verification {
        #[serde(rename = "type")]
        kind: String,
        challenge: String,
    }
    // Most requests are none.
    memmem::find(body, b"url_verification")?;
    let verification: Verification = serde_json::from_slice(body).ok()?;
    (verification.kind == "url_verification").then_some(verification.challenge)
}
