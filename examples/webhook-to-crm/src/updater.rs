//! The second worker: writes to the CRM until it succeeds, or parks what cannot.

use std::time::{Duration, SystemTime};

use reqwest::{Client, Response, StatusCode, Url, header};
use serde_json::json;
use towpath::{Attempt, Failure};

use crate::pipeline::{Change, Update};

/// The longest that the CRM may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Writes updates to the CRM over HTTP.
#[derive(Clone, Debug)]
pub struct Updater {
    client: Client,
    crm: Url,
}

impl Updater {
    /// An updater for the CRM at `crm`.
    ///
    /// # Errors
    ///
    /// When `crm` cannot be a base URL.
    pub fn new(crm: Url) -> anyhow::Result<Self> {
        anyhow::ensure!(
            crm.scheme() == "http",
            "{crm}: this example speaks plain http only"
        );
        let client = Client::builder()
            .timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, crm })
    }

    /// Writes one update. The `Idempotency-Key` is the same in every attempt, so the CRM applies
    /// it once however often it is sent.
    pub async fn handle(&self, attempt: Attempt) -> Result<(), Failure> {
        let update: Update = attempt.json()?;
        let key = attempt.envelope().message.idempotency_key().to_string();
        let request = match update.change {
            Change::Activity { kind, at, summary } => self
                .client
                .post(self.url(&["contacts", &update.customer, "activities"])?)
                .json(&json!({ "kind": kind, "at": at, "summary": summary })),
            Change::Contact { name, message } => self
                .client
                .put(self.url(&["contacts", &update.customer])?)
                .json(&json!({ "name": name, "message": message })),
        };
        let response = request.header("idempotency-key", key).send().await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(failure(response).await)
    }

    fn url(&self, segments: &[&str]) -> Result<Url, Failure> {
        let mut url = self.crm.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::permanent("the CRM's address cannot have a path"))?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }
}

/// What an answer other than success means: wait as asked, try again, or never again.
async fn failure(response: Response) -> Failure {
    let status = response.status();
    let wait = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| retry_after(value.to_str().ok()?));
    let body = response.text().await.unwrap_or_default();
    let reason = format!(
        "the CRM answered {status}: {}",
        body.chars().take(200).collect::<String>()
    );
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            retry(reason, wait)
        }
        status if status.is_client_error() => Failure::permanent(reason),
        _ => retry(reason, wait),
    }
}

fn retry(reason: String, wait: Option<Duration>) -> Failure {
    match wait {
        Some(wait) => Failure::retry_after(reason, wait.min(LONGEST_WAIT)),
        None => Failure::retry(reason),
    }
}

/// `Retry-After` as seconds or as a date.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO)
        );
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        assert!(retry_after(&soon).unwrap() > Duration::from_secs(80));
        assert_eq!(retry_after("soon"), None);
    }
}
