//! A TCP proxy whose connections can be cut.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use towpath_core::{Error, ErrorKind, Result};

/// The proxies of a harness, by their address as an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    cuts: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Proxies {
    /// Starts a proxy to `endpoint`, `http://host:port`. It ends with the runtime of the caller.
    pub(crate) async fn open(&self, name: &str, endpoint: &str) -> Result<SocketAddr> {
        let target = endpoint
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/').to_owned())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("the endpoint {endpoint:?} of {name} is not http://host:port"),
                )
            })?;
        let listen = async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, address))
        };
        let (listener, address) = listen.await.map_err(|error| {
            Error::new(ErrorKind::Unknown, "a proxy could not be started").with_source(error)
        })?;
        let cut = Arc::new(Notify::new());
        self.cuts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(format!("http://{address}"), cut.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target.clone(), cut.clone()));
            }
        });
        Ok(address)
    }

    /// Cuts all connections of the proxy at `endpoint`.
    pub(crate) fn cut(&self, endpoint: &str) -> Result<()> {
        let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = cuts.get(endpoint).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("there is no proxy at {endpoint:?}"),
            )
        })?;
        cut.notify_waiters();
        Ok(())
    }
}

async fn forward(mut client: TcpStream, target: String, cut: Arc<Notify>) {
    let cut = cut.notified();
    tokio::pin!(cut);
    // Registered before the connection is made, so that a cut in between is not missed.
    cut.as_mut().enable();
    let Ok(mut server) = TcpStream::connect(&target).await else {
        return;
    };
    // Dropping the copy closes both connections, which is the point.
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = cut => {}
    }
}
