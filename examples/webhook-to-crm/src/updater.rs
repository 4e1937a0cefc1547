//! The second worker's handler: writes to the CRM until it succeeds, or parks what cannot.

use std::time::Duration;

use reqwest::Url;
use serde_json::json;
use towpath::updater::{Body, BreakerConfig, Destination, Route, Updater, UpdaterConfig};

use crate::pipeline::{ACTIVITIES, DESTINATION};

/// An updater for the CRM at `crm`, which it lets rest for `cool_down` when it fails.
///
/// # Errors
///
/// When `crm` cannot be a base URL.
pub fn updater(crm: &Url, cool_down: Duration) -> towpath::Result<Updater> {
    let destination = |path: &str, body| {
        let breaker = BreakerConfig::default()
            .cool_down(cool_down)
            .max_cool_down(cool_down.max(Duration::from_secs(10)));
        Destination::new(format!("{crm}contacts/{path}"))
            .body(Body::Json(body))
            .concurrency(32)
            .breaker(breaker)
            // The fake CRM is in this machine.
            .allow_http(true)
            .allow_private(true)
    };
    let activity = json!({ "kind": "{/kind}", "at": "{/at}", "summary": "{/summary}" });
    let contact = json!({ "name": "{/name}", "message": "{/message}" });
    Updater::new(
        UpdaterConfig::new()
            .destination(ACTIVITIES, destination("{/customer}/activities", activity))
            .destination(
                "crm-contacts",
                destination("{/email}", contact).method("PUT"),
            )
            // The pipeline names its destination; forms come as they were posted.
            .route(Route::attribute(DESTINATION).with_default("crm-contacts")),
    )
}
