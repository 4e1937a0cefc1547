//! A queue that can be switched off, a receiver of it, and requests.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;
use towpath_core::{
    Capabilities, Error, ErrorKind, Lease, Limits, Message, MessageId, Producer, ProducerOptions,
    Result, driver,
};
use towpath_webhook::{
    Config, Receiver,
    signature::{Key, Signer, github::Github},
};

/// How a queue behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Up,
    Down,
    /// Answers no send until the mode changes.
    Hanging,
    /// Panics.
    Faulty,
}

/// A queue that remembers what it was sent.
#[derive(Clone, Debug)]
pub(crate) struct TestQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capabilities: Capabilities,
    mode: watch::Sender<Mode>,
    waiting: watch::Sender<usize>,
    messages: Mutex<Vec<Message>>,
}

impl TestQueue {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Capabilities)) -> Self {
        let lease = Lease::Managed {
            max_total: Duration::from_secs(3_600),
        };
        let mut capabilities = Capabilities::new(Limits::default(), lease);
        capabilities.gather = false;
        capabilities.ordering = true;
        change(&mut capabilities);
        Self(Arc::new(Shared {
            capabilities,
            mode: watch::Sender::new(Mode::Up),
            waiting: watch::Sender::new(0),
            messages: Mutex::default(),
        }))
    }

    pub(crate) fn producer(&self) -> Producer {
        let mut options = ProducerOptions::default();
        options.send_timeout = Duration::ZERO;
        Producer::new(Arc::new(self.clone()), options)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.0.mode.send_replace(mode);
    }

    /// Waits until so many sends hang.
    pub(crate) async fn until_waiting(&self, sends: usize) {
        let mut waiting = self.0.waiting.subscribe();
        waiting.wait_for(|now| *now >= sends).await.unwrap();
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.0.messages.lock().unwrap().clone()
    }

    pub(crate) fn only(&self) -> Message {
        let messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].clone()
    }
}

#[async_trait]
impl driver::Producer for TestQueue {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn encoded_len(&self, message: &Message) -> usize {
        message.body().len()
    }

    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        let mut mode = self.0.mode.subscribe();
        self.0.waiting.send_modify(|waiting| *waiting += 1);
        let _ = mode.wait_for(|mode| *mode != Mode::Hanging).await;
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
        assert_ne!(*mode.borrow(), Mode::Faulty, "as the test says");
        let is_up = *mode.borrow() == Mode::Up;
        let send = |message: &Message| {
            if !is_up {
                return Err(Error::new(ErrorKind::Unavailable, "switched off"));
            }
            let mut messages = self.0.messages.lock().unwrap();
            messages.push(message.clone());
            Ok(MessageId::from(messages.len() as u64))
        };
        batch.iter().map(send).collect()
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// A source of GitHub's with one secret, at `/hook`, which goes to `queue`.
pub(crate) const GITHUB: &str = r#"
    [sources.github]
    path = "/hook"
    queue = "queue"
    verify = { scheme = "github", secrets = ["secret"] }
"#;

pub(crate) async fn start(config: &str, queue: &TestQueue) -> Receiver {
    let config = Config::parse(config).unwrap();
    let receiver = Receiver::builder().producer("queue", queue.producer());
    receiver.start(config).await.unwrap()
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn id(&self) -> &str {
        assert!(self.status.is_success(), "{self:?}");
        assert_eq!(self.body["status"], "accepted");
        self.body["id"].as_str().unwrap()
    }

    /// Refused with this status and kind, as a problem.
    pub(crate) fn is_refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["code"], code, "{self:?}");
        assert_eq!(self.body["status"], status);
    }
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}

/// A POST of JSON with these headers.
pub(crate) fn request(path: &str, headers: HeaderMap, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post(path)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap();
    request.headers_mut().extend(headers);
    request
}

pub(crate) async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

/// A request as `signer` would send it now.
pub(crate) fn signed(signer: &dyn Signer, path: &str, id: &str, body: &[u8]) -> Request<Body> {
    let signed = signer.sign(body, id, SystemTime::now()).unwrap();
    request(path, signed.headers, signed.body)
}

/// A request of GitHub's to `/hook`.
pub(crate) fn github(id: &str, body: &str) -> Request<Body> {
    signed(
        &Github::new([Key::new("secret")]),
        "/hook",
        id,
        body.as_bytes(),
    )
}
