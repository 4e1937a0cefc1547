//! The whole receiver: paths, media types, JSON, schema, ids, routes, ordering keys, headers.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
};
use bytes::Bytes;
use http::{HeaderMap, Request};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;
use towpath_core::{Consumer, Error, Message, Registry};
use towpath_memory::MemoryBackend;
use towpath_webhook::{Config, Receiver};

/// A source for each way that a body can take; anybody may send.
const CONFIG: &str = r#"
[sources.json]
path = "/json"
queue = "first"
verify = "none"
ordering_key = "/order/id"
headers = ["x-kind"]
dedup = { id_pointer = "/id", capacity = 64 }
route = { pointer = "/kind", queues = { other = "second" } }
schema = { inline = '{ "type": "object" }', max_depth = 16 }

[sources.form]
path = "/form"
queue = "first"
verify = "none"
content_types = ["application/x-www-form-urlencoded", "multipart/form-data"]
dedup = { id_header = "x-id", capacity = 64 }
route = { header = "x-kind", queues = { other = "second" } }

[sources.short]
path = "/short"
queue = "second"
verify = "none"
content_types = ["text/plain"]
max_body_bytes = 100
"#;
const QUEUES: [&str; 2] = ["first", "second"];

struct Setup {
    runtime: Runtime,
    router: Router,
    /// Held for a whole request, as its message is looked for in queues that all requests share.
    queues: Mutex<Vec<Consumer>>,
}

static SETUP: LazyLock<Setup> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (router, queues) = runtime
        .block_on(async {
            let registry = Registry::new().with(MemoryBackend::new());
            let mut builder = Receiver::builder();
            let mut queues = Vec::new();
            for name in QUEUES {
                let queue = registry.open(&format!("memory://{name}?prefetch=0"))?;
                builder = builder.producer(name, queue.producer().await?);
                queues.push(queue.consumer().await?);
            }
            let receiver = builder.start(Config::parse(CONFIG)?).await?;
            Ok::<_, Error>((receiver.router(), queues))
        })
        .expect("a right configuration");
    Setup {
        runtime,
        router,
        queues: Mutex::new(queues),
    }
});

/// A POST to `path`. What is in a queue then is what was sent, under the id of the answer.
pub(super) fn post(path: &str, headers: HeaderMap, body: &[u8]) {
    let Ok(mut request) = Request::post(path).body(Body::from(Bytes::copy_from_slice(body))) else {
        return;
    };
    *request.headers_mut() = headers;
    let setup = &*SETUP;
    let queues = setup.queues.lock().unwrap_or_else(PoisonError::into_inner);
    setup.runtime.block_on(async {
        let Ok(answer) = setup.router.clone().oneshot(request).await;
        let status = answer.status();
        assert!(!status.is_server_error(), "{status}");
        let answer = to_bytes(answer.into_body(), usize::MAX)
            .await
            .expect("a whole answer");
        let messages = drain(&queues).await;
        assert!(messages.len() <= usize::from(status.is_success()));
        for message in messages {
            assert_eq!(message.body(), body);
            let answer: Value = serde_json::from_slice(&answer).expect("an answer in JSON");
            assert_eq!(answer["id"], message.idempotency_key().to_string());
        }
    });
}

async fn drain(queues: &[Consumer]) -> Vec<Message> {
    let mut messages = Vec::new();
    for queue in queues {
        let batch = queue.receive_batch(10, Duration::ZERO).await;
        for delivery in batch.expect("an open queue") {
            messages.push(delivery.envelope().message.clone());
            delivery.ack().await.expect("a lease");
        }
    }
    messages
}
