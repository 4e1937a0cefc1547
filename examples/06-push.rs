//! The same handler behind a Pub/Sub push subscription, for instance on Cloud Run.
//!
//! ```sh
//! PUSH_AUDIENCE=https://orders.example/push PUSH_ACCOUNT=pusher@my-project.iam.gserviceaccount.com \
//!     PORT=8080 cargo run -p examples --bin push
//! ```
//!
//! `PUSH_KEYS_URL` names other keys than Google's, for tests.
#![allow(clippy::print_stdout)]

use std::env;

use anyhow::Context;
use towpath::{
    Attempt, Failure,
    push::{PushEndpoint, TokenVerifier},
};

async fn handle(attempt: Attempt) -> Result<(), Failure> {
    let order: u64 = attempt.json()?;
    if order == 0 {
        return Err(Failure::retry("order 0 is not ready"));
    }
    println!("order {order}");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let audience =
        env::var("PUSH_AUDIENCE").context("PUSH_AUDIENCE: the audience of the subscription")?;
    let account =
        env::var("PUSH_ACCOUNT").context("PUSH_ACCOUNT: the subscription's service account")?;
    let verifier = match env::var("PUSH_KEYS_URL") {
        Ok(url) => TokenVerifier::with_keys_at(audience, account, url)?,
        Err(_) => TokenVerifier::google(audience, account)?,
    };
    let endpoint = PushEndpoint::builder(handle, verifier).build()?;

    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let host = env::var("HOST").unwrap_or_else(|_| "127.0.0.1".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("{host}:{port}")).await?;
    println!("listening on http://{}/push", listener.local_addr()?);
    let shutdown = towpath::worker::shutdown_signal()?;
    axum::serve(listener, endpoint.router("/push"))
        .with_graceful_shutdown(shutdown)
        .await?;
    Ok(())
}
