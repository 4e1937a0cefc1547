//! Producer, consumer and admin on top of the directory.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use towpath_core::{
    AckStatus, Attempts, Capabilities, Change, Depth, EnsureMode, Error, ErrorKind, Lease, Limits,
    Message, MessageId, Precision, QueueInfo, QueueSpec, Result,
    driver::{self, Receipt, Received},
    wire,
};

use crate::store::{self, Store};

/// How often the directory is looked at while a receive waits.
const LOOK: Duration = Duration::from_millis(10);
/// The lease of a queue whose specification names none.
const LEASE: Duration = Duration::from_secs(30);
const LEASES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(43_200);
const MESSAGE_BYTES: usize = 16 * 1_024 * 1_024;

/// What a receipt holds: the name of the file, which changes with every extension.
#[derive(Debug)]
pub(crate) struct Ticket(Mutex<String>);

impl Ticket {
    pub(crate) fn file(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, file: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }
}

/// The sending and the receiving half, which need the same.
#[derive(Debug)]
pub(crate) struct Half {
    store: Store,
    capabilities: Capabilities,
    lease: Duration,
    closed: CancellationToken,
}

impl Half {
    pub(crate) async fn open(store: Store, lease: Option<Duration>) -> Result<Self> {
        let reading = store.clone();
        let settings = blocking(move || reading.settings()).await?;
        let lease = lease.unwrap_or(Duration::from_millis(settings.lease_ms));
        let mut limits = Limits::default();
        limits.message_bytes = MESSAGE_BYTES;
        limits.send_batch = 100;
        limits.receive_batch = 100;
        limits.settle_batch = 100;
        limits.delay = *LEASES.end();
        limits.nack_delay = *LEASES.end();
        let mut capabilities = Capabilities::new(
            limits,
            Lease::Extended {
                duration: lease,
                range: LEASES,
                max_total: Duration::MAX,
            },
        );
        capabilities.attempts = Attempts::Exact;
        capabilities.ack = AckStatus::Confirmed;
        capabilities.depth = Precision::Exact;
        capabilities.oldest_age = true;
        capabilities.purge = true;
        // Each message is a file of its own: gathering saves nothing.
        capabilities.gather = false;
        // A file may be leased when the future is dropped, so receiving needs a task of its own.
        capabilities.cancel_safe_receive = false;
        Ok(Self {
            store,
            capabilities,
            lease,
            closed: CancellationToken::new(),
        })
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.is_cancelled() {
            return Err(
                Error::new(ErrorKind::Closed, "it was closed; open the queue again")
                    .with_backend("directory")
                    .with_operation(operation),
            );
        }
        Ok(())
    }

    /// Runs `settle` for each receipt.
    async fn each<T: Send + 'static>(
        &self,
        operation: &'static str,
        receipts: &[Receipt],
        settle: impl Fn(&Store, &Receipt) -> Result<T> + Send + 'static,
    ) -> Vec<Result<T>> {
        if let Err(error) = self.check_open(operation) {
            return receipts.iter().map(|_| Err(error.clone())).collect();
        }
        let (store, owned) = (self.store.clone(), receipts.to_vec());
        let all = blocking(move || {
            Ok(owned
                .iter()
                .map(|receipt| {
                    settle(&store, receipt).map_err(|error| error.with_operation(operation))
                })
                .collect())
        });
        match all.await {
            Ok(results) => results,
            Err(error) => receipts.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

#[async_trait]
impl driver::Producer for Half {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn encoded_len(&self, message: &Message) -> usize {
        let attributes = message.attributes().iter();
        attributes.fold(wire::body_text_len(message.body()), |sum, (name, value)| {
            sum + name.len() + value.len()
        })
    }

    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        if let Err(error) = self.check_open("send") {
            return vec![Err(error); batch.len()];
        }
        let (store, messages) = (self.store.clone(), batch.to_vec());
        let all = blocking(move || {
            Ok(messages
                .iter()
                .map(|message| {
                    store
                        .send(message)
                        .map_err(|error| error.with_operation("send"))
                })
                .collect())
        });
        all.await
            .unwrap_or_else(|error| vec![Err(error); batch.len()])
    }

    async fn close(&self) -> Result<()> {
        self.closed.cancel();
        Ok(())
    }
}

#[async_trait]
impl driver::Consumer for Half {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let deadline = Instant::now().checked_add(wait);
        let most = max.get().min(self.capabilities.limits.receive_batch);
        loop {
            self.check_open("receive")?;
            let (store, lease) = (self.store.clone(), self.lease);
            let received = blocking(move || store.receive(most, lease)).await;
            let received = received.map_err(|error| error.with_operation("receive"))?;
            if !received.is_empty() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(received.into_iter().map(with_ticket).collect());
            }
            // Both only wait.
            tokio::select! {
                () = sleep(LOOK.min(wait)) => {}
                () = self.closed.cancelled() => {}
            }
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        self.each("ack", receipts, Store::ack).await
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        if delay > self.capabilities.limits.nack_delay {
            let error = Error::new(
                ErrorKind::Unsupported,
                "a nack can be delayed by 12 h at most",
            );
            return vec![
                Err(error.with_backend("directory").with_operation("nack"));
                receipts.len()
            ];
        }
        self.each("nack", receipts, move |store, receipt| {
            store.show_after(receipt, delay)?;
            // The old name is gone, so this receipt settles nothing any more.
            receipt.object::<Ticket>()?.set(String::new());
            Ok(())
        })
        .await
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        if !LEASES.contains(&lease) {
            let error = Error::new(ErrorKind::Unsupported, "a lease lasts from 1 ms to 12 h");
            return vec![
                Err(error.with_backend("directory").with_operation("extend"));
                receipts.len()
            ];
        }
        self.each("extend", receipts, move |store, receipt| {
            let file = store.show_after(receipt, lease)?;
            receipt.object::<Ticket>()?.set(file);
            Ok(())
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        self.closed.cancel();
        Ok(())
    }
}

/// Puts the name of the file where an extension can change it.
fn with_ticket(received: Received) -> Received {
    let file = received
        .receipt
        .object::<String>()
        .cloned()
        .unwrap_or_default();
    Received::new(received.envelope, Receipt::new(Ticket(Mutex::new(file))))
}

/// The administrating half.
#[derive(Debug)]
pub(crate) struct Settings(pub(crate) Store);

impl Settings {
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.0.clone();
        blocking(move || work(&store))
            .await
            .map_err(|error| error.with_operation(operation))
    }
}

#[async_trait]
impl driver::Admin for Settings {
    async fn ensure(&self, spec: &QueueSpec, mode: EnsureMode) -> Result<Vec<Change>> {
        let unsupported = [
            (spec.ordered, "no ordering"),
            (
                spec.dead_letter.is_some(),
                "no dead-letter policy of its own; set dead_letter and max_attempts for its consumers",
            ),
            (
                spec.retention.is_some(),
                "no retention: messages stay until they are settled",
            ),
        ];
        if let Some((_, what)) = unsupported.iter().find(|(wanted, _)| *wanted) {
            let error = Error::new(ErrorKind::Unsupported, format!("a directory has {what}"));
            return Err(error.with_backend("directory").with_operation("ensure"));
        }
        let lease = spec.lease;
        if lease.is_some_and(|lease| !LEASES.contains(&lease)) {
            let error = Error::new(ErrorKind::InvalidConfig, "a lease lasts from 1 ms to 12 h");
            return Err(error.with_backend("directory").with_operation("ensure"));
        }
        self.run("ensure", move |store| ensure(store, lease, mode))
            .await
    }

    async fn inspect(&self) -> Result<QueueInfo> {
        self.run("inspect", |store| {
            let mut info = QueueInfo::new(store.path());
            info.lease = Some(Duration::from_millis(store.settings()?.lease_ms));
            info.exactly_once = true;
            Ok(info)
        })
        .await
    }

    async fn depth(&self) -> Result<Depth> {
        self.run("depth", Store::depth).await
    }

    async fn purge(&self) -> Result<()> {
        self.run("purge", Store::purge).await
    }

    async fn delete(&self) -> Result<()> {
        self.run("delete", Store::delete).await
    }
}

fn ensure(store: &Store, lease: Option<Duration>, mode: EnsureMode) -> Result<Vec<Change>> {
    let shown = |ms: u64| format!("{ms}ms");
    let wanted_ms = |lease: Duration| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    let (change, settings) = match store.settings() {
        Ok(is) => {
            let lease_ms = lease.map_or(is.lease_ms, wanted_ms);
            if lease_ms == is.lease_ms {
                return Ok(Vec::new());
            }
            let change = Change {
                setting: format!("{} lease", store.path()),
                from: Some(shown(is.lease_ms)),
                to: shown(lease_ms),
            };
            if mode == EnsureMode::Create {
                return Err(Change::refused(&[change]).with_backend("directory"));
            }
            (change, store::Settings { lease_ms })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let lease_ms = wanted_ms(lease.unwrap_or(LEASE));
            let change = Change {
                setting: format!("queue {}", store.path()),
                from: None,
                to: format!("a lease of {}", shown(lease_ms)),
            };
            (change, store::Settings { lease_ms })
        }
        Err(error) => return Err(error),
    };
    if mode != EnsureMode::Plan {
        store.write_settings(&settings)?;
    }
    Ok(vec![change])
}

/// Runs file operations where they hold up nobody else.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Unknown, "an operation on files panicked").with_source(error))
        })
}
