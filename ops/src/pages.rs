//! The pages, from the templates in `templates/`, which escape everything.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use uuid::Uuid;

use crate::{
    dead_letters::{DeadLetter, PAGE},
    overview::{Overview, Reading},
};

#[derive(Template)]
#[template(path = "overview.html")]
pub(crate) struct OverviewPage<'a> {
    pub(crate) title: &'a str,
    pub(crate) overview: &'a Overview,
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
pub(crate) struct DeadLettersPage<'a> {
    pub(crate) title: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) letters: &'a [DeadLetter],
    pub(crate) form_token: &'a str,
}

#[derive(Template)]
#[template(path = "confirm.html")]
pub(crate) struct ConfirmPage<'a> {
    pub(crate) title: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) action: &'a str,
    pub(crate) keys: Vec<Uuid>,
    pub(crate) form_token: &'a str,
}

#[derive(Template)]
#[template(path = "done.html")]
pub(crate) struct DonePage<'a> {
    pub(crate) title: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) text: &'a str,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    title: &'a str,
    text: &'a str,
}

/// What went wrong; answered as a page.
#[derive(Debug)]
pub(crate) struct PageError {
    status: StatusCode,
    text: String,
}

impl PageError {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let page = render(&ErrorPage {
            title: "towpath",
            text: &self.text,
        });
        (self.status, page).into_response()
    }
}

pub(crate) fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
