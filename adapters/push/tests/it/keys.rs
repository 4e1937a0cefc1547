//! Keys that are fetched.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use towpath_push::{PushEndpoint, TokenVerifier};

use crate::harness::{
    AUDIENCE, EMAIL, ISSUER, Scripted, TestKey, claims, key_set, request, send, token, token_by,
    wrapped,
};

/// A server of keys: what it answers, and how often it was asked.
struct Issuer {
    url: String,
    answer: Arc<Mutex<(StatusCode, String, usize)>>,
}

impl Issuer {
    async fn start(keys: &[&TestKey]) -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, key_set(keys), 0)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/certs", listener.local_addr().unwrap());
        let state = answer.clone();
        let router = Router::new().route(
            "/certs",
            get(move || async move {
                let mut answer = state.lock().unwrap();
                answer.2 += 1;
                (answer.0, answer.1.clone())
            }),
        );
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, answer }
    }

    fn set(&self, status: StatusCode, keys: &[&TestKey]) {
        let mut answer = self.answer.lock().unwrap();
        (answer.0, answer.1) = (status, key_set(keys));
    }

    fn asked(&self) -> usize {
        self.answer.lock().unwrap().2
    }

    fn router(&self) -> Router {
        let verifier = TokenVerifier::with_keys_at(AUDIENCE, EMAIL, &self.url).unwrap();
        let endpoint = PushEndpoint::builder(Scripted::default(), verifier).build();
        endpoint.unwrap().router("/push")
    }
}

async fn push(router: &Router, token: &str) -> StatusCode {
    let mut request = request(wrapped("x").to_string());
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    send(router, request).await.status()
}

#[tokio::test]
async fn keys_are_fetched_once_and_then_kept() {
    let issuer = Issuer::start(&[&ISSUER]).await;
    let router = issuer.router();
    assert_eq!(issuer.asked(), 0);
    for _ in 0..5 {
        assert_eq!(
            push(&router, &token(&claims())).await,
            StatusCode::NO_CONTENT
        );
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn made_up_key_ids_cause_no_storm() {
    let issuer = Issuer::start(&[&ISSUER]).await;
    let router = issuer.router();
    for i in 0..20 {
        let token = token_by(&ISSUER, &format!("made-up-{i}"), &claims());
        assert_eq!(push(&router, &token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(issuer.asked(), 1);
}

/// Under a paused clock: what is sent on this machine arrives before the clock moves on.
#[tokio::test(start_paused = true)]
async fn a_new_key_of_the_issuer_is_found() {
    let issuer = Issuer::start(&[&ISSUER]).await;
    let router = issuer.router();
    assert_eq!(
        push(&router, &token(&claims())).await,
        StatusCode::NO_CONTENT
    );
    let new = TestKey::new("key-2");
    issuer.set(StatusCode::OK, &[&ISSUER, &new]);
    tokio::time::advance(Duration::from_secs(31)).await;
    let token = token_by(&new, "key-2", &claims());
    assert_eq!(push(&router, &token).await, StatusCode::NO_CONTENT);
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_outlive_an_outage_of_the_issuer_but_not_for_ever() {
    let issuer = Issuer::start(&[&ISSUER]).await;
    let router = issuer.router();
    assert_eq!(
        push(&router, &token(&claims())).await,
        StatusCode::NO_CONTENT
    );
    issuer.set(StatusCode::INTERNAL_SERVER_ERROR, &[]);
    tokio::time::advance(Duration::from_secs(12 * 3_600)).await;
    assert_eq!(
        push(&router, &token(&claims())).await,
        StatusCode::NO_CONTENT
    );
    tokio::time::advance(Duration::from_secs(13 * 3_600)).await;
    assert_eq!(
        push(&router, &token(&claims())).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    issuer.set(StatusCode::OK, &[&ISSUER]);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(
        push(&router, &token(&claims())).await,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn without_keys_nothing_is_accepted_and_pubsub_tries_again() {
    let issuer = Issuer::start(&[&ISSUER]).await;
    issuer.set(StatusCode::INTERNAL_SERVER_ERROR, &[]);
    let router = issuer.router();
    for _ in 0..3 {
        assert_eq!(
            push(&router, &token(&claims())).await,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    assert_eq!(issuer.asked(), 1);
}
