use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use tower::ServiceExt as _;
use towpath_core::{FailureClass, Message, Queue, Registry};
use towpath_memory::MemoryBackend;
use towpath_ops::{Ops, WatchedQueue};

pub(crate) const MAIL: &str = "memory://mail?dead_letter=mail-dlq";

/// A queue with dead letters, and the page on it.
pub(crate) struct Setup {
    pub(crate) registry: Registry,
    pub(crate) queue: Queue,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let registry = Registry::new().with(MemoryBackend::new());
        let queue = registry.open(MAIL).unwrap();
        Self { registry, queue }
    }

    pub(crate) fn dead(&self) -> Queue {
        self.queue.dead_letter().unwrap().unwrap()
    }

    pub(crate) fn ops(&self) -> Ops {
        Ops::new("test").queue(WatchedQueue::new("mail", self.queue.clone()))
    }

    pub(crate) fn router(&self) -> Router {
        self.ops().router().unwrap()
    }

    /// Sends each body and dead-letters it for `reason`.
    pub(crate) async fn bury(&self, bodies: &[&str], reason: &str) {
        bury(&self.queue, bodies, reason).await;
    }

    pub(crate) async fn depths(&self) -> (u64, u64) {
        (total(&self.queue).await, total(&self.dead()).await)
    }
}

pub(crate) async fn bury(queue: &Queue, bodies: &[&str], reason: &str) {
    let producer = queue.producer().await.unwrap();
    let consumer = queue.consumer().await.unwrap();
    for body in bodies {
        let message = Message::new((*body).to_owned()).with_attribute("kind", "test");
        producer.send(message).await.unwrap();
        let delivery = consumer.receive().await.unwrap();
        delivery
            .dead_letter(FailureClass::Permanent, reason)
            .await
            .unwrap();
    }
    consumer.close().await.unwrap();
}

pub(crate) async fn total(queue: &Queue) -> u64 {
    let depth = queue.admin().await.unwrap().depth().await.unwrap();
    assert_eq!(depth.leased, 0, "nothing stays in hand");
    depth.total()
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) text: String,
}

pub(crate) async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

pub(crate) async fn get(router: &Router, path: &str) -> Answer {
    let request = Request::get(path).header(header::HOST, "127.0.0.1:9180");
    ask(router, request.body(Body::empty()).unwrap()).await
}

pub(crate) async fn post(router: &Router, path: &str, form: &[(&str, &str)]) -> Answer {
    let body: Vec<_> = form.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let request = Request::post(path)
        .header(header::HOST, "127.0.0.1:9180")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    ask(router, request.body(Body::from(body.join("&"))).unwrap()).await
}

/// The values of all inputs of this name.
pub(crate) fn inputs(page: &str, name: &str) -> Vec<String> {
    let before = format!("name=\"{name}\" value=\"");
    page.split(&before)
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
