//! What is answered to which request.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State as Shared},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use towpath_core::ErrorKind;
use uuid::Uuid;

use crate::{
    WatchedQueue, dead_letters, guard,
    ops::State,
    overview::Overview,
    pages::{self, ConfirmPage, DeadLettersPage, DonePage, OverviewPage, PageError},
};

type App = Shared<Arc<State>>;

pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/status.json", get(status))
        .route("/style.css", get(style))
        .route("/queues/{queue}/dead-letters", get(list))
        .route("/queues/{queue}/confirm", post(confirm))
        .route("/queues/{queue}/redrive", post(redrive))
        .route("/queues/{queue}/discard", post(discard))
        .fallback(|| async { PageError::new(StatusCode::NOT_FOUND, "There is no such page.") })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&state),
            guard::guard,
        ))
        .with_state(state)
}

async fn overview(Shared(state): App) -> Response {
    pages::render(&OverviewPage {
        title: &state.title,
        overview: &Overview::of(&state).await,
    })
}

async fn status(Shared(state): App) -> Json<Overview> {
    Json(Overview::of(&state).await)
}

async fn style() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("../static/style.css"),
    )
}

async fn list(Shared(state): App, Path(queue): Path<String>) -> Result<Response, PageError> {
    let watched = find(&state, &queue)?;
    let letters = dead_letters::list(watched).await.map_err(failed)?;
    Ok(pages::render(&DeadLettersPage {
        title: &state.title,
        queue: &watched.name,
        letters: &letters,
        form_token: state.guard.form_token(),
    }))
}

/// What a form says.
#[derive(Deserialize)]
struct Chosen {
    #[serde(default)]
    key: Vec<Uuid>,
    #[serde(default)]
    action: String,
    #[serde(default)]
    form_token: String,
}

impl Chosen {
    /// Reads a form of this page, and of no other site.
    fn read(state: &State, body: &[u8]) -> Result<Self, PageError> {
        let chosen: Self = serde_html_form::from_bytes(body)
            .map_err(|error| bad_request(&format!("The form cannot be read: {error}")))?;
        if !state.guard.is_form_token(&chosen.form_token) {
            return Err(PageError::new(
                StatusCode::FORBIDDEN,
                "This form does not come from this page, or the process was restarted since. \
                 Nothing was changed. Go back, reload and choose again.",
            ));
        }
        if chosen.key.is_empty() {
            return Err(bad_request("Nothing was chosen. Go back and tick some."));
        }
        Ok(chosen)
    }

    fn keys(&self) -> BTreeSet<Uuid> {
        self.key.iter().copied().collect()
    }
}

async fn confirm(
    Shared(state): App,
    Path(queue): Path<String>,
    body: Bytes,
) -> Result<Response, PageError> {
    let watched = find(&state, &queue)?;
    let chosen = Chosen::read(&state, &body)?;
    if !["redrive", "discard"].contains(&chosen.action.as_str()) {
        return Err(bad_request(
            "What is to be done is missing: redrive or discard.",
        ));
    }
    Ok(pages::render(&ConfirmPage {
        title: &state.title,
        queue: &watched.name,
        action: &chosen.action,
        keys: chosen.keys().into_iter().collect(),
        form_token: state.guard.form_token(),
    }))
}

async fn redrive(state: App, path: Path<String>, body: Bytes) -> Result<Response, PageError> {
    act(state, path, &body, Action::Redrive).await
}

async fn discard(state: App, path: Path<String>, body: Bytes) -> Result<Response, PageError> {
    act(state, path, &body, Action::Discard).await
}

enum Action {
    Redrive,
    Discard,
}

async fn act(
    Shared(state): App,
    Path(queue): Path<String>,
    body: &[u8],
    action: Action,
) -> Result<Response, PageError> {
    find(&state, &queue)?;
    let keys = Chosen::read(&state, body)?.keys();
    // In a task of its own: a browser that goes away does not cut it short.
    let acting = tokio::spawn(async move {
        let watched = find(&state, &queue)?;
        let text = match action {
            Action::Redrive => dead_letters::redrive(&state, watched, &keys).await,
            Action::Discard => dead_letters::discard(watched, &keys).await,
        };
        Ok(pages::render(&DonePage {
            title: &state.title,
            queue: &watched.name,
            text: &text.map_err(failed)?,
        }))
    });
    acting.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an action of the ops page did not end");
        Err(PageError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "It did not end; the log has more. What was not done stays in the dead-letter queue.",
        ))
    })
}

fn find<'a>(state: &'a State, queue: &str) -> Result<&'a WatchedQueue, PageError> {
    state.queues.get(queue).ok_or_else(|| {
        PageError::new(
            StatusCode::NOT_FOUND,
            format!("No queue is shown as {queue:?}."),
        )
    })
}

fn bad_request(text: &str) -> PageError {
    PageError::new(StatusCode::BAD_REQUEST, text)
}

fn failed(error: towpath_core::Error) -> PageError {
    let status = match error.kind() {
        ErrorKind::InvalidConfig | ErrorKind::NotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_GATEWAY,
    };
    PageError::new(status, error.to_string())
}
