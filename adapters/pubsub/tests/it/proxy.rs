//! A TCP proxy in front of a server: it can cut connections, refuse new ones, be silent or slow.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

/// What the proxy does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    /// Connections are reset, and nothing listens.
    Down,
    /// Connections are accepted and kept, and nothing passes.
    Silent,
    /// Each piece is held up so long.
    Slow(Duration),
}

/// A proxy, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    mode: Arc<watch::Sender<Mode>>,
    cuts: watch::Sender<u64>,
    is_listening: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy in front of `endpoint`.
    pub(crate) async fn start(endpoint: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        let cuts = watch::Sender::new(0);
        let (listens, is_listening) = watch::channel(true);
        let task = accept(
            listener,
            address,
            upstream,
            mode.clone(),
            cuts.subscribe(),
            listens,
        );
        Ok(Self {
            endpoint: format!("http://{address}"),
            mode,
            cuts,
            is_listening,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        })
    }

    /// Changes what the proxy does. When this returns, it listens, or does not.
    pub(crate) async fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        let wanted = mode != Mode::Down;
        let mut is_listening = self.is_listening.clone();
        // It fails when the proxy's task ended, which the test then notices.
        let _ = is_listening.wait_for(|listens| *listens == wanted).await;
    }

    /// Resets all connections; new ones are taken.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Refuses everything for `time`.
    pub(crate) async fn outage(&self, time: Duration) {
        self.set(Mode::Down).await;
        sleep(time).await;
        self.set(Mode::Open).await;
    }
}

async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    upstream: String,
    mode: Arc<watch::Sender<Mode>>,
    cuts: watch::Receiver<u64>,
    listens: watch::Sender<bool>,
) {
    let mut changes = mode.subscribe();
    let mut listener = Some(listener);
    loop {
        if *changes.borrow_and_update() == Mode::Down {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        listens.send_replace(listener.is_some());
        let Some(open) = &listener else {
            // The port may be taken for a moment.
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(Duration::from_millis(100)) => {}
            }
            continue;
        };
        // Both branches only wait.
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            accepted = open.accept() => {
                if let Ok((client, _)) = accepted {
                    let (upstream, changes) = (upstream.clone(), mode.subscribe());
                    tokio::spawn(connect(client, upstream, changes, cuts.clone()));
                }
            }
        }
    }
}

async fn connect(
    client: TcpStream,
    upstream: String,
    mut changes: watch::Receiver<Mode>,
    mut cuts: watch::Receiver<u64>,
) {
    cuts.mark_unchanged();
    let Ok(server) = TcpStream::connect(&upstream).await else {
        return;
    };
    // Closing resets, as a machine does that is gone.
    for stream in [&client, &server] {
        let _ = (stream.set_nodelay(true), stream.set_zero_linger());
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mode = changes.clone();
    // The end of any branch ends the connection.
    tokio::select! {
        _ = pass(from_client, to_server, mode.clone()) => {}
        _ = pass(from_server, to_client, mode) => {}
        _ = cuts.changed() => {}
        _ = changes.wait_for(|mode| *mode == Mode::Down) => {}
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1_024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let now = mode
            .wait_for(|mode| *mode != Mode::Silent)
            .await
            .map_or(Mode::Down, |mode| *mode);
        if let Mode::Slow(time) = now {
            sleep(time).await;
        }
        to.write_all(&buffer[..n]).await?;
    }
}
