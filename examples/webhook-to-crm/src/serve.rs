//! Puts the receiver, the two workers and the fake CRM together in one process.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use axum::Router;
use reqwest::Url;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use towpath::{
    Attempt, Consumer, EnsureMode, Producer, Queue, QueueConfig, QueueSpec,
    ops::{Ops, Status, WatchedQueue},
    updater::{BreakerState, DestinationState, Pausing, Updater},
    webhook::{Config, Receiver, Secret},
    worker::{Backoff, Gate, Report, RetryPolicy, Worker},
};

use crate::{crm::Crm, pipeline, updater::updater};

/// What to run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The queue of events.
    pub queue: QueueConfig,
    /// The queue of updates; `None` names it after the queue of events.
    pub updates: Option<QueueConfig>,
    /// Where the receiver listens.
    pub listen: SocketAddr,
    /// The CRM to write to; `None` starts a fake one.
    pub crm: Option<Url>,
    /// Where the fake CRM listens.
    pub crm_listen: SocketAddr,
    /// The file that the fake CRM keeps its ledger in.
    pub crm_ledger: Option<PathBuf>,
    /// Where the operator's page listens; `None` for no page.
    pub ops: Option<SocketAddr>,
    /// Mailgun's webhook signing key.
    pub signing_key: Secret,
    /// The file in which events wait while their queue cannot be reached.
    pub spool: Option<PathBuf>,
    /// The delay before the first retry; it grows up to a minute.
    pub first_retry: Duration,
}

/// Everything, running.
#[derive(Debug)]
pub struct Running {
    /// Where the receiver listens.
    pub receiver: Url,
    /// Where the CRM is.
    pub crm: Url,
    /// Where the operator's page is.
    pub ops: Option<Url>,
    /// Consumers of the two dead-letter queues.
    pub dead_letters: Vec<Consumer>,
    /// The two queues.
    pub queues: Vec<Queue>,
    stop_receiving: CancellationToken,
    stop_working: CancellationToken,
    stop_crm: CancellationToken,
    hooks: Receiver,
    receiver_task: JoinHandle<()>,
    crm_task: Option<JoinHandle<()>>,
    ops_task: Option<AbortOnDropHandle<()>>,
    workers: Vec<(String, JoinHandle<Report>)>,
    _pausing: Pausing,
    producers: Vec<Producer>,
}

impl Setup {
    /// Opens the queues (and creates what is missing), and starts everything.
    ///
    /// # Errors
    ///
    /// When a queue cannot be opened or an address cannot be listened on.
    pub async fn start(self) -> anyhow::Result<Running> {
        let registry = towpath::registry();
        let updates_config = self
            .updates
            .clone()
            .unwrap_or_else(|| named_after(&self.queue));
        let events = registry.open_config(self.queue)?;
        let updates = registry.open_config(updates_config)?;
        for queue in [&events, &updates] {
            create(queue)
                .await
                .with_context(|| format!("the queue {}", queue.config()))?;
        }
        let (stop_receiving, stop_working, stop_crm) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );

        let (crm, crm_task) = match self.crm {
            Some(url) => (url, None),
            None => {
                let crm = match &self.crm_ledger {
                    Some(path) => Crm::open(path).with_context(|| format!("{}", path.display()))?,
                    None => Crm::in_memory(),
                };
                let (url, task) = listen(self.crm_listen, crm.router(), &stop_crm).await?;
                (url, Some(task))
            }
        };

        let (events_in, updates_in) = (events.producer().await?, updates.producer().await?);
        let mut config = Config::parse(include_str!("../webhooks.toml"))?
            .with_secrets("mailgun", [self.signing_key])?;
        if let Some(file) = self.spool {
            config = config.with_spool(file);
        }
        let hooks = Receiver::builder()
            .producer("events", events_in.clone())
            .producer("updates", updates_in.clone())
            .start(config)
            .await?;
        let (receiver, receiver_task) =
            listen(self.listen, hooks.router(), &stop_receiving).await?;

        let retry = RetryPolicy::new(Backoff::exponential(
            self.first_retry,
            Duration::from_secs(60),
        ));
        let to_updates = updates_in.clone();
        let pipeline = Worker::builder(events.consumer().await?, move |attempt: Attempt| {
            let updates = to_updates.clone();
            async move { pipeline::handle(attempt, &updates).await }
        })
        .concurrency(32)
        .retry(retry.clone())
        .build()?;
        let updater = updater(&crm, self.first_retry)?;
        // While the CRM is down, updates stay in the queue and lose no attempt.
        let gate = Gate::new();
        let pausing = updater.pause(&gate);
        let crm_state = updater.clone();
        let updater = Worker::builder(updates.consumer().await?, updater)
            .concurrency(32)
            .gate(gate)
            .retry(retry)
            .build()?;
        let page = Ops::new("webhook-to-crm")
            .queue(WatchedQueue::new("events", events.clone()).worker(&pipeline))
            .queue(WatchedQueue::new("updates", updates.clone()).worker(&updater))
            .status("CRM", move || state_of(&crm_state));
        let (ops, ops_task) = match self.ops {
            Some(address) => {
                let (url, task) = serve_ops(address, page).await?;
                (Some(url), Some(task))
            }
            None => (None, None),
        };
        let mut workers = Vec::new();
        for (name, worker) in [("pipeline", pipeline), ("updater", updater)] {
            let stop = stop_working.clone();
            let running = tokio::spawn(worker.run_until(async move { stop.cancelled().await }));
            workers.push((name.to_owned(), running));
        }

        let mut dead_letters = Vec::new();
        for queue in [&events, &updates] {
            if let Some(queue) = queue.dead_letter()? {
                dead_letters.push(queue.consumer().await?);
            }
        }
        Ok(Running {
            receiver,
            crm,
            ops,
            dead_letters,
            queues: vec![events, updates],
            stop_receiving,
            stop_working,
            stop_crm,
            hooks,
            receiver_task,
            crm_task,
            ops_task,
            workers,
            _pausing: pausing,
            producers: vec![events_in, updates_in],
        })
    }
}

impl Running {
    /// Stops in the order in which nothing is lost: first the receiver, then the workers, then the
    /// rest. Returns what the workers did.
    ///
    /// # Errors
    ///
    /// When a part panicked.
    pub async fn stop(self) -> anyhow::Result<Vec<(String, Report)>> {
        self.stop_receiving.cancel();
        self.receiver_task.await?;
        self.hooks.close().await?;
        self.stop_working.cancel();
        let mut reports = Vec::new();
        for (name, worker) in self.workers {
            reports.push((name, worker.await?));
        }
        for producer in self.producers {
            producer.close().await?;
        }
        for consumer in self.dead_letters {
            consumer.close().await?;
        }
        drop(self.ops_task);
        self.stop_crm.cancel();
        if let Some(task) = self.crm_task {
            task.await?;
        }
        Ok(reports)
    }
}

/// How the CRM is, for the operator.
fn state_of(updater: &Updater) -> Status {
    let closed = |state: &DestinationState| state.breaker == BreakerState::Closed;
    match updater
        .state()
        .into_iter()
        .find(|(_, state)| !closed(state))
    {
        None => Status::good("answers"),
        Some((name, state)) => Status::bad(format!(
            "{name} is left alone for {:.0} s: {}",
            state.cool_down_left.as_secs_f64(),
            state.last_failure.unwrap_or_default()
        )),
    }
}

async fn serve_ops(address: SocketAddr, page: Ops) -> anyhow::Result<(Url, AbortOnDropHandle<()>)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let url = Url::parse(&format!("http://{}", listener.local_addr()?))?;
    let task = tokio::spawn(async move {
        if let Err(error) = page.serve(listener).await {
            tracing::error!(%error, "the operator's page ended");
        }
    });
    Ok((url, AbortOnDropHandle::new(task)))
}

/// Serves `router` until `stop`; returns the address that it got.
///
/// # Errors
///
/// When the address cannot be listened on.
pub async fn listen(
    address: SocketAddr,
    router: Router,
    stop: &CancellationToken,
) -> anyhow::Result<(Url, JoinHandle<()>)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let url = Url::parse(&format!("http://{}", listener.local_addr()?))?;
    let stop = stop.clone();
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    let task = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "serving ended");
        }
    });
    Ok((url, task))
}

/// Creates the queue and its dead-letter queue where they are missing.
async fn create(queue: &Queue) -> anyhow::Result<()> {
    let mut spec = QueueSpec::new();
    spec.lease = queue.options().lease;
    if let Some(dead_letter) = &queue.options().dead_letter {
        // Above the workers' own limit, which parks messages with their reason.
        let backstop = queue
            .options()
            .max_attempts
            .unwrap_or(10)
            .saturating_mul(2)
            .clamp(10, 100);
        spec = spec.with_dead_letter(dead_letter, backstop);
    }
    let changes = queue
        .admin()
        .await?
        .ensure(&spec, EnsureMode::Create)
        .await?;
    for change in changes {
        tracing::info!(setting = change.setting, to = change.to, "created");
    }
    Ok(())
}

/// The queue of updates that belongs to a queue of events: the same place and options, with `-crm`
/// at the end of the names.
fn named_after(events: &QueueConfig) -> QueueConfig {
    let suffixed = |name: &str| match name.strip_suffix(".fifo") {
        Some(name) => format!("{name}-crm.fifo"),
        None => format!("{name}-crm"),
    };
    let mut updates = events
        .clone()
        .with_target(suffixed(events.target()))
        .without_option("subscription");
    if let Some(dead_letter) = events.option("dead_letter") {
        updates = updates.with_option("dead_letter", suffixed(dead_letter));
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_of_updates_is_named_after_the_queue_of_events() {
        let name = |url: &str| named_after(&QueueConfig::parse(url).unwrap()).to_string();
        assert_eq!(name("memory://mail"), "memory://mail-crm");
        assert_eq!(
            name("sqs://mail.fifo?dead_letter=dead.fifo&region=eu-central-1"),
            "sqs://mail-crm.fifo?dead_letter=dead-crm.fifo&region=eu-central-1"
        );
        assert_eq!(
            name("pubsub://p/mail?subscription=s"),
            "pubsub://p/mail-crm"
        );
    }
}
