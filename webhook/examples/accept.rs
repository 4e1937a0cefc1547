//! Three servers to compare: a bare handler that reads a body and verifies its signature but enqueues
//! nothing, the receiver, and the receiver while its queue is down and a spool keeps what it accepts.
//!
//! ```text
//! cargo run --release -p towpath-webhook --example accept
//! wrk -t2 -c64 -d10s --latency -s webhook/examples/accept.lua http://127.0.0.1:8090/hook   # bare
//! wrk -t2 -c64 -d10s --latency -s webhook/examples/accept.lua http://127.0.0.1:8091/hook   # receiver
//! wrk -t2 -c64 -d10s --latency -s webhook/examples/accept.lua http://127.0.0.1:8092/hook   # spool
//! ```
//!
//! The receiver's queue is `memory://`, and a consumer in the same process empties it, so the
//! receiver does that work too.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use tokio::net::TcpListener;
use towpath_core::Registry;
use towpath_memory::MemoryBackend;
use towpath_webhook::{
    Config, Receiver,
    signature::{Key, Verifier, github::Github},
    spool::{Spool, SpoolOptions},
};

const DAY: Duration = Duration::from_secs(86_400);

const CONFIG: &str = r#"
    [queues]
    pushes = "memory://pushes"

    [sources.github]
    path = "/hook"
    queue = "pushes"
    verify = { scheme = "github", secrets = ["It's a Secret to Everybody"] }
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let github = Arc::new(Github::new([Key::new("It's a Secret to Everybody")]));
    let bare = Router::new().route("/hook", post(bare)).with_state(github);
    let registry = Registry::new().with(MemoryBackend::shared());
    let receiver = Receiver::builder()
        .registry(registry.clone())
        .start(Config::parse(CONFIG)?)
        .await?;
    let consumer = registry.open("memory://pushes")?.consumer().await?;
    tokio::spawn(async move {
        while let Ok(deliveries) = consumer.receive_batch(1_000, DAY).await {
            consumer.ack_batch(deliveries).await;
        }
    });
    let bare = axum::serve(TcpListener::bind("127.0.0.1:8090").await?, bare);
    let full = TcpListener::bind("127.0.0.1:8091").await?;
    let full = axum::serve(full, receiver.router());

    // Every send to this queue is throttled, for ever.
    let down = CONFIG.replace(
        "memory://pushes",
        "memory://down?faults=throttle:1&send_timeout=100ms",
    );
    let folder = tempfile::tempdir()?;
    let mut options = SpoolOptions::default();
    options.max_messages = 1_000_000;
    options.max_bytes = 8 << 30;
    let spool = Spool::open(folder.path().join("spool"), options)?;
    let spooling = Receiver::builder()
        .registry(registry)
        .overflow(Arc::new(spool))
        .start(Config::parse(&down)?)
        .await?;
    let spooled = TcpListener::bind("127.0.0.1:8092").await?;
    let spooled = axum::serve(spooled, spooling.router());
    tokio::try_join!(async { bare.await }, async { full.await }, async {
        spooled.await
    })?;
    Ok(())
}

async fn bare(State(github): State<Arc<Github>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match github.verify(&headers, &body, SystemTime::now()) {
        Ok(_) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::UNAUTHORIZED,
    }
}
