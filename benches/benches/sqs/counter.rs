//! A proxy in front of the server that counts the requests of each action.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};

use crate::Error;

/// Requests by action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    pub(crate) fn since(&self, before: &Self) -> Self {
        let of_before = |action| before.0.get(action).copied().unwrap_or(0);
        let since = self.0.iter().map(|(action, count)| {
            let new = count - of_before(action);
            (action.clone(), new)
        });
        Self(since.filter(|(_, count)| *count > 0).collect())
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// `SendMessage=1 ..`
    pub(crate) fn list(&self) -> String {
        let list: Vec<String> = self
            .0
            .iter()
            .map(|(action, count)| format!("{action}={count}"))
            .collect();
        list.join(" ")
    }
}

#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) endpoint: String,
    counts: Arc<Mutex<Counts>>,
}

impl Counter {
    /// Starts the proxy; it ends with the runtime.
    pub(crate) async fn start(upstream: &str) -> Result<Self, Error> {
        let upstream = upstream
            .strip_prefix("http://")
            .ok_or("the server's address is not http://HOST:PORT")?
            .trim_end_matches('/')
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let counts = Arc::new(Mutex::new(Counts::default()));
        let shared = counts.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, counts) = (upstream.clone(), shared.clone());
                tokio::spawn(async move {
                    // A connection that breaks is the contender's to report.
                    let _ = forward(client, &upstream, &counts).await;
                });
            }
        });
        Ok(Self { endpoint, counts })
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn forward(client: TcpStream, upstream: &str, counts: &Mutex<Counts>) -> Result<(), Error> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    // Either end going away ends the other.
    tokio::select! {
        ended = requests(from_client, to_server, counts) => ended,
        ended = tokio::io::copy(&mut from_server, &mut to_client) => Ok(ended.map(drop)?),
    }
}

/// Passes requests on and counts them by their heads.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    counts: &Mutex<Counts>,
) -> Result<(), Error> {
    let mut buffer = vec![0; 64 * 1_024];
    let mut head: Vec<u8> = Vec::new();
    let mut body_left = 0;
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            if body_left > 0 {
                let here = rest.len().min(body_left);
                body_left -= here;
                rest = &rest[here..];
                continue;
            }
            let searched = head.len().saturating_sub(3);
            head.extend_from_slice(rest);
            let Some(end) = head[searched..]
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
            else {
                break;
            };
            let end = searched + end + 4;
            let after = head.len() - end;
            let (action, length) = read_head(&head[..end])?;
            *counts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .0
                .entry(action)
                .or_default() += 1;
            head.clear();
            body_left = length;
            rest = &rest[rest.len() - after..];
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// The action and the length of the body.
fn read_head(head: &[u8]) -> Result<(String, usize), Error> {
    let text = std::str::from_utf8(head)?;
    let header = |wanted: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let action = header("x-amz-target")
        .and_then(|target| target.rsplit('.').next())
        .unwrap_or("other");
    let length = match header("content-length") {
        Some(length) => length.parse()?,
        None => return Err("a request came without the length of its body".into()),
    };
    Ok((action.to_owned(), length))
}
