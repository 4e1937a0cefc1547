//! Whether the receiver lives, and whether it can accept events.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use axum::{extract::State, response::Response};
use futures::future::join_all;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::{Receiver, metrics};
use crate::problem::json_response;

/// `GET /livez`: 200 as long as requests are answered at all.
pub(super) async fn live() -> Response {
    json_response(
        StatusCode::OK,
        "application/json",
        &json!({ "status": "live" }),
    )
}

/// The answer of `GET /readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    sources: usize,
    queues: BTreeMap<String, QueueState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spool: Option<SpoolState>,
    configuration: Configuration,
}

#[derive(Debug, Serialize)]
struct QueueState {
    reachable: bool,
    /// The kind of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct SpoolState {
    depth: usize,
    has_room: bool,
    /// Those whose messages are kept until a configuration names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_queues: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Configuration {
    loaded_at: String,
    /// When a later one was rejected; the log says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_at: Option<String>,
}

/// `GET /readyz`: 200 when every queue can be reached or the overflow has room, else 503.
pub(super) async fn ready(State(receiver): State<Receiver>) -> Response {
    let table = receiver.table();
    let states = table.targets().map(Arc::clone).map(|target| async move {
        let failing = target.failure().await;
        let state = QueueState {
            reachable: failing.is_none(),
            reason: failing.map(|failing| failing.kind.as_str()),
        };
        (target.name().to_owned(), state)
    });
    let queues: BTreeMap<String, QueueState> = join_all(states).await.into_iter().collect();
    let spool = receiver.0.overflow.as_ref().map(|overflow| SpoolState {
        depth: overflow.depth(),
        has_room: overflow.has_room(),
        unknown_queues: overflow.unknown_queues(),
    });
    if let Some(spool) = &spool {
        metrics::spool_depth(spool.depth);
    }
    let has_room = spool.as_ref().is_some_and(|spool| spool.has_room);
    let is_ready = has_room || queues.values().all(|queue| queue.reachable);
    let loaded = receiver.loaded();
    let readiness = Readiness {
        status: if is_ready { "ready" } else { "not_ready" },
        sources: table.sources(),
        queues,
        spool,
        configuration: Configuration {
            loaded_at: time(loaded.at),
            rejected_at: loaded.rejected.map(|(at, _)| time(at)),
        },
    };
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_response(status, "application/json", &readiness)
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
