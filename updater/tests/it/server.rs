//! A server that answers as a test says and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header::HeaderName},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use towpath_core::{Attempt, Envelope, Handler, Message, Outcome};
use towpath_updater::{Destination, Updater, UpdaterConfig};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

pub(crate) fn reply(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: String::new(),
    }
}

impl Reply {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        for (name, value) in self.headers {
            response.headers_mut().insert(
                HeaderName::from_static(name),
                HeaderValue::from_str(&value).unwrap(),
            );
        }
        response
    }
}

pub(crate) struct Server {
    addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    replies: Mutex<Vec<Reply>>,
    seen: watch::Sender<Vec<Seen>>,
    /// Requests are answered while this is true.
    is_open: watch::Sender<bool>,
    now: Mutex<(usize, usize)>,
    /// What `HEAD` is answered with, where it is not what all is.
    head: Mutex<Option<Reply>>,
}

impl Server {
    /// Answers with `replies` one after the other, and with the last of them for ever.
    pub(crate) async fn start(replies: impl Into<Vec<Reply>>) -> Self {
        let mut replies = replies.into();
        replies.reverse();
        let state = Arc::new(State {
            replies: Mutex::new(replies),
            seen: watch::Sender::default(),
            is_open: watch::Sender::new(true),
            now: Mutex::default(),
            head: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().fallback({
            let state = state.clone();
            move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                let seen = Seen {
                    method,
                    uri,
                    headers,
                    body,
                };
                answer(state.clone(), seen)
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, state, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// A destination at this server.
    pub(crate) fn destination(&self, path: &str) -> Destination {
        Destination::new(self.url(path))
            .allow_private(true)
            .allow_http(true)
            .timeout(Duration::from_secs(20))
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.borrow().clone()
    }

    /// Waits until so many requests arrived.
    pub(crate) async fn saw(&self, count: usize) {
        let mut seen = self.state.seen.subscribe();
        seen.wait_for(|seen| seen.len() >= count).await.unwrap();
    }

    /// The most requests that were under way at once.
    pub(crate) fn peak(&self) -> usize {
        self.state.now.lock().unwrap().1
    }

    /// Lets requests wait, or lets them go on.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.state.is_open.send_replace(is_open);
    }

    /// What [`set_open`](Self::set_open) sets.
    pub(crate) fn gate(&self) -> watch::Sender<bool> {
        self.state.is_open.clone()
    }

    /// Answers every `HEAD` with this, as a front that is alive.
    pub(crate) fn set_head(&self, reply: Reply) {
        *self.state.head.lock().unwrap() = Some(reply);
    }

    /// Replaces what is answered from now on.
    pub(crate) fn set_reply(&self, reply: Reply) {
        *self.state.replies.lock().unwrap() = vec![reply];
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<State>, seen: Seen) -> Response<Body> {
    {
        let mut now = state.now.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
    }
    let is_head = seen.method == Method::HEAD;
    state.seen.send_modify(|all| all.push(seen));
    let mut is_open = state.is_open.subscribe();
    is_open.wait_for(|is_open| *is_open).await.unwrap();
    state.now.lock().unwrap().0 -= 1;
    let head = state.head.lock().unwrap().clone();
    if let Some(reply) = head.filter(|_| is_head) {
        return reply.response();
    }
    let reply = {
        let mut replies = state.replies.lock().unwrap();
        match replies.len() {
            1 => replies[0].clone(),
            _ => replies.pop().unwrap(),
        }
    };
    reply.response()
}

pub(crate) fn updater(destination: Destination) -> Updater {
    Updater::new(UpdaterConfig::new().destination("crm", destination)).unwrap()
}

pub(crate) fn attempt(body: &'static str) -> Attempt {
    attempt_at(Message::new(body))
}

pub(crate) fn attempt_at(message: Message) -> Attempt {
    Attempt::new(Envelope::new("m-1".into(), message), "events")
}

pub(crate) async fn handle(updater: &Updater, body: &'static str) -> Outcome {
    updater.handle(attempt(body)).await
}

/// The reason, whatever the outcome.
pub(crate) fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Ack => "",
        Outcome::Retry { reason, .. }
        | Outcome::Release { reason, .. }
        | Outcome::DeadLetter { reason, .. } => reason,
    }
}
