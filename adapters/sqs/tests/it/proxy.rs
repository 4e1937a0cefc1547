//! A TCP proxy in front of a server: it counts the requests, and can lose answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::server::Server;

/// A proxy, which ends with its runtime.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) server: Server,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests by action.
    counts: watch::Sender<BTreeMap<String, usize>>,
    /// The action whose answers are lost, and how many more of them.
    lost: Mutex<String>,
    to_lose: AtomicUsize,
}

impl Proxy {
    /// A proxy in front of `server`; the returned server is the way through it.
    pub(crate) async fn start(server: &Server) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let upstream = server.endpoint.trim_start_matches("http://").to_owned();
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, state) = (upstream.clone(), shared.clone());
                tokio::spawn(async move {
                    // Either end going away ends the other.
                    let _ = forward(client, &upstream, &state).await;
                });
            }
        });
        let server = Server {
            endpoint,
            ..server.clone()
        };
        Ok(Self { server, state })
    }

    /// Loses the answers to the next `count` requests of `action`: they are applied, and the
    /// connection is closed instead of answered.
    pub(crate) fn lose_answers(&self, action: &str, count: usize) {
        action.clone_into(
            &mut self
                .state
                .lost
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.state.to_lose.store(count, Ordering::SeqCst);
    }

    /// How many answers are still to be lost.
    pub(crate) fn left_to_lose(&self) -> usize {
        self.state.to_lose.load(Ordering::SeqCst)
    }

    /// The requests so far, by action.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.state.counts.borrow().clone()
    }

    /// Waits until there was a request of `action`.
    pub(crate) async fn seen(&self, action: &str) {
        let mut counts = self.state.counts.subscribe();
        // The sender lives in the state, so waiting never fails.
        let _ = counts.wait_for(|counts| counts.contains_key(action)).await;
    }
}

async fn forward(mut client: TcpStream, upstream: &str, state: &State) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut request, mut answer) = (vec![0; 64 * 1_024], vec![0; 64 * 1_024]);
    let mut is_losing = false;
    loop {
        // Both branches only read; what was read is forwarded before the next look.
        tokio::select! {
            read = client.read(&mut request) => {
                let n = read?;
                if n == 0 {
                    return Ok(());
                }
                if let Some(action) = action(&request[..n]) {
                    is_losing = state.is_to_lose(&action);
                    server.write_all(&request[..n]).await?;
                    state.counts.send_modify(|counts| *counts.entry(action).or_default() += 1);
                } else {
                    server.write_all(&request[..n]).await?;
                }
            }
            read = server.read(&mut answer) => {
                let n = read?;
                if n == 0 || is_losing {
                    return Ok(());
                }
                client.write_all(&answer[..n]).await?;
            }
        }
    }
}

impl State {
    fn is_to_lose(&self, action: &str) -> bool {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost == action
            && self
                .to_lose
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
    }
}

/// The action of the request whose head begins here.
fn action(bytes: &[u8]) -> Option<String> {
    if !bytes.starts_with(b"POST ") {
        return None;
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4_096)]).to_ascii_lowercase();
    let (_, rest) = head.split_once("x-amz-target: amazonsqs.")?;
    Some(rest.lines().next()?.trim().to_owned())
}
