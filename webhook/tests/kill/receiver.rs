//! The receiver that is killed. It stops at a point that its environment names, says so, and waits.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{extract::Request, middleware::Next, response::Response};
use futures::poll;
use towpath_core::{
    Capabilities, Error, ErrorKind, Lease, Limits, Message, MessageId, Producer, ProducerOptions,
    Result, driver,
};
use towpath_webhook::{
    Config, Overflow, Receiver,
    spool::{Spool, SpoolOptions},
};

pub(crate) const FOLDER: &str = "SPOOL_TEST_FOLDER";
pub(crate) const QUEUE: &str = "SPOOL_TEST_QUEUE";
pub(crate) const STOP_AT: &str = "SPOOL_TEST_STOP_AT";
/// What the queue was sent: one idempotency key per line.
pub(crate) const LEDGER: &str = "ledger";

const CONFIG: &str = r#"
    [sources.github]
    path = "/hook"
    queue = "queue"
    verify = { scheme = "github", secrets = ["secret"] }
"#;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").unwrap();
    stdout.flush().unwrap();
}

/// Where to stop, and at which time of being there.
#[derive(Debug)]
struct Points {
    name: String,
    left: AtomicU32,
}

impl Points {
    async fn reach(&self, name: &str) {
        if self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            say(&format!("at {name}"));
            std::future::pending::<()>().await;
        }
    }
}

/// A spool with points before, in and after a push.
#[derive(Debug)]
struct Watched {
    spool: Spool,
    points: Arc<Points>,
}

#[async_trait]
impl Overflow for Watched {
    async fn push(&self, queue: &str, message: &Message) -> Result<()> {
        self.points.reach("before_push").await;
        let mut push = pin!(Overflow::push(&self.spool, queue, message));
        let polled = poll!(&mut push);
        self.points.reach("pushing").await;
        match polled {
            std::task::Poll::Ready(result) => result?,
            std::task::Poll::Pending => push.await?,
        }
        self.points.reach("pushed").await;
        Ok(())
    }

    fn holds(&self, queue: &str) -> bool {
        self.spool.has(queue)
    }

    fn depth(&self) -> usize {
        self.spool.depth()
    }

    fn has_room(&self) -> bool {
        self.spool.state().has_room
    }

    fn unknown_queues(&self) -> Vec<String> {
        self.spool.state().unknown_queues
    }
}

/// A queue that writes down what it is sent, or is down.
#[derive(Debug)]
struct Ledger {
    capabilities: Capabilities,
    file: Option<File>,
    points: Arc<Points>,
}

#[async_trait]
impl driver::Producer for Ledger {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn encoded_len(&self, message: &Message) -> usize {
        message.body().len()
    }

    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        let mut results = Vec::new();
        for message in batch {
            let Some(mut file) = self.file.as_ref() else {
                results.push(Err(Error::new(ErrorKind::Unavailable, "down")));
                continue;
            };
            self.points.reach("publishing").await;
            writeln!(file, "{}", message.idempotency_key()).unwrap();
            self.points.reach("published").await;
            results.push(Ok(MessageId::from(0)));
        }
        results
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::main]
pub(crate) async fn run() {
    let folder = PathBuf::from(variable(FOLDER));
    let stop_at = variable(STOP_AT);
    let (name, count) = stop_at.split_once(':').unwrap();
    let points = Arc::new(Points {
        name: name.to_owned(),
        left: AtomicU32::new(count.parse().unwrap()),
    });
    let is_up = variable(QUEUE) == "up";
    let lease = Lease::Managed {
        max_total: Duration::from_secs(60),
    };
    let mut capabilities = Capabilities::new(Limits::default(), lease);
    capabilities.gather = false;
    let ledger = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join(LEDGER))
        .unwrap();
    let queue = Ledger {
        capabilities,
        file: is_up.then_some(ledger),
        points: Arc::clone(&points),
    };
    let mut options = ProducerOptions::default();
    options.send_timeout = Duration::ZERO;
    let producer = Producer::new(Arc::new(queue), options);

    let spool = Spool::open(folder.join("spool"), SpoolOptions::default()).unwrap();
    let overflow = Watched {
        spool: spool.clone(),
        points: Arc::clone(&points),
    };
    let receiver = Receiver::builder()
        .producer("queue", producer)
        .overflow(Arc::new(overflow))
        .start(Config::parse(CONFIG).unwrap())
        .await
        .unwrap();
    let router = receiver.router().layer(axum::middleware::from_fn(
        move |request: Request, next: Next| {
            let points = Arc::clone(&points);
            async move {
                points.reach("arrived").await;
                let response: Response = next.run(request).await;
                points.reach("answering").await;
                response
            }
        },
    ));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    say(&format!(
        "listening {}",
        listener.local_addr().unwrap().port()
    ));
    if is_up {
        let draining = spool.clone();
        tokio::spawn(async move {
            let lookup = |queue: &str| receiver.producer(queue);
            draining.run(lookup, std::future::pending()).await;
        });
        tokio::spawn(async move {
            loop {
                if spool.depth() == 0 {
                    say("drained");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    axum::serve(listener, router).await.unwrap();
}
