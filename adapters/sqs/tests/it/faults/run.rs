//! A run: starting it, waiting for it, and the judgement of what became of every message.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use towpath_core::{Consumer, Error, ErrorKind, Registry, driver::Admin};

use super::{
    notes::Notes,
    proxy::FaultProxy,
    traffic::{Handler, produce},
};
use crate::{Outcome, server::config};

const PRODUCERS: usize = 8;
const CONSUMERS: usize = 3;
/// Tasks that share a consumer.
const HANDLERS: usize = 6;
/// How often a run says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long the queue may take to drain when the faults have ended.
const DRAIN: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) messages: usize,
    pub(super) seed: u64,
    /// The queue's visibility timeout.
    pub(super) lease: Duration,
}

/// The name of the dead-letter queue of the queue `name`.
pub(super) fn dead_letter_name(name: &str) -> String {
    format!("{name}-dlq")
}

/// A run that is under way.
pub(super) struct Run {
    plan: Plan,
    proxy: FaultProxy,
    notes: Notes,
    begun: Instant,
    producers: JoinSet<towpath_core::Result<()>>,
    consumers: Vec<Consumer>,
    handlers: JoinSet<()>,
    stop: watch::Sender<bool>,
    dead_letters: Consumer,
}

impl Run {
    pub(super) async fn start(
        plan: Plan,
        registry: Registry,
        proxy: &FaultProxy,
        queue: &str,
    ) -> towpath_core::Result<Self> {
        let config =
            config(&proxy.endpoint, queue).with_option("dead_letter", dead_letter_name(queue));
        let queue = registry.open_config(config)?;
        let notes = Notes::default();
        let stop = watch::Sender::new(false);
        let mut consumers = Vec::new();
        let mut handlers = JoinSet::new();
        for number in 0..CONSUMERS {
            let consumer = queue.consumer().await?;
            for task in 0..HANDLERS {
                let handler = Handler {
                    name: format!("{number}.{task}"),
                    consumer: consumer.clone(),
                    notes: notes.clone(),
                    lease: plan.lease,
                };
                let rng = Rng::with_seed(plan.seed * 1_000 + (number * HANDLERS + task) as u64);
                handlers.spawn(handler.run(rng, stop.subscribe()));
            }
            consumers.push(consumer);
        }
        let dead_letters = queue
            .dead_letter()?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "the queue has no dead-letter queue",
                )
            })?
            .consumer()
            .await?;
        let producer = queue.producer().await?;
        proxy.set_failing(true);
        let mut producers = JoinSet::new();
        for number in 0..PRODUCERS {
            let rng = Rng::with_seed(plan.seed * 2_000 + number as u64);
            let rest = usize::from(number < plan.messages % PRODUCERS);
            let share = plan.messages / PRODUCERS + rest;
            producers.spawn(produce(producer.clone(), notes.clone(), rng, share));
        }
        Ok(Self {
            plan,
            proxy: proxy.clone(),
            notes,
            begun: Instant::now(),
            producers,
            consumers,
            handlers,
            stop,
            dead_letters,
        })
    }

    #[expect(clippy::print_stdout, reason = "a run of minutes says how far it is")]
    pub(super) fn say(&self, what: &str) {
        let notes = &self.notes.0;
        println!(
            "{} {:>4.0} s: {what}; sent {} acked {} faults {}",
            self.plan.name,
            self.begun.elapsed().as_secs_f64(),
            notes.accepted.load(Ordering::Relaxed),
            notes.settled.load(Ordering::Relaxed),
            self.proxy.faults(),
        );
    }

    /// Waits until this share of the messages is sent.
    pub(super) async fn until_sent(&self, share: f64) {
        let wanted = (self.plan.messages as f64 * share) as usize;
        let mut said = Instant::now();
        while self.notes.0.accepted.load(Ordering::Relaxed) < wanted {
            sleep(Duration::from_millis(100)).await;
            if said.elapsed() > PROGRESS {
                said = Instant::now();
                self.say("under way");
            }
        }
    }

    /// Waits until all is sent, ends the faults, waits until the queue is empty, and judges.
    /// `admin` asks the server itself.
    pub(super) async fn finish(mut self, admin: Arc<dyn Admin>) -> Outcome {
        loop {
            match timeout(PROGRESS, self.producers.join_next()).await {
                Ok(Some(ended)) => ended??,
                Ok(None) => break,
                Err(_) => self.say("under way"),
            }
        }
        self.say("all is sent");
        // Most of the settling meets the faults too.
        let enough = self.plan.messages / 10 * 9;
        while self.notes.0.settled.load(Ordering::Relaxed) < enough {
            sleep(PROGRESS).await;
            self.say("under way");
        }
        self.proxy.set_failing(false);
        self.say("the faults have ended");
        let deadline = Instant::now() + DRAIN;
        loop {
            let depth = admin.depth().await?;
            if depth.ready + depth.leased + depth.delayed == 0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("not drained within {DRAIN:?}: {depth:?}").into());
            }
            sleep(PROGRESS).await;
            self.say("draining");
        }
        self.stop.send_replace(true);
        while let Some(ended) = self.handlers.join_next().await {
            ended?;
        }
        for consumer in &self.consumers {
            consumer.close().await?;
        }
        self.collect_dead_letters().await?;
        self.judge()
    }

    async fn collect_dead_letters(&self) -> Outcome {
        let mut seen = BTreeSet::new();
        loop {
            let wait = Duration::from_secs(1);
            let batch = self.dead_letters.receive_batch(100, wait).await?;
            if batch.is_empty() {
                return Ok(());
            }
            for delivery in &batch {
                let message = &delivery.envelope().message;
                if message.failure().is_none() {
                    return Err("a dead letter has no reason".into());
                }
                // A copy for the dead-letter queue may be there twice, as any other message.
                if seen.insert(message.idempotency_key()) {
                    self.notes.0.messages.dead_lettered(message);
                }
            }
            for acked in self.dead_letters.ack_batch(batch).await {
                acked.map_err(|failed| failed.error)?;
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "the figures of the run")]
    fn judge(&self) -> Outcome {
        let notes = &self.notes.0;
        let messages = notes.messages.check();
        let copies = notes.copies.check();
        let seen = self.notes.seen();
        let accepted = notes.accepted.load(Ordering::Relaxed);
        let unknown_sends = notes.unknown_sends.load(Ordering::Relaxed);
        // Nowhere to be found, but an ack that ended in an error may have removed them.
        let gone_unknown = messages.lost.intersection(&seen.unknown_acks).count();
        let lost = messages.lost.len() - gone_unknown;
        let extra_copies = seen.copies.len() - seen.keys.len();
        let unanswered_sends = self.proxy.unanswered("SendMessageBatch");
        let unanswered_acks = self.proxy.unanswered("DeleteMessageBatch");
        println!(
            "{} {:>4.0} s: accepted={accepted} unknown_sends={unknown_sends} acked={} \
             dead_lettered={} deliveries={} lost={lost} unexpected={} changed={} overlapping={} \
             false_acks={} came_back={} unknown_acks={} gone_with_unknown_ack={gone_unknown} \
             lost_leases={} extra_copies={extra_copies} of at most {unanswered_sends} unanswered \
             sends, {unanswered_acks} unanswered acks; {}",
            self.plan.name,
            self.begun.elapsed().as_secs_f64(),
            messages.done,
            messages.dead_lettered,
            notes.attempts.load(Ordering::Relaxed),
            messages.unexpected.len(),
            messages.changed.len(),
            copies.overlapping.len(),
            copies.false_acks.len(),
            seen.came_back.len(),
            seen.unknown_acks.len(),
            notes.lost_leases.load(Ordering::Relaxed),
            self.proxy,
        );
        print!(
            "{}{}{}",
            notes.copies.trace(&copies.overlapping),
            notes.copies.trace(&copies.false_acks),
            notes.copies.trace(&seen.came_back),
        );
        let is_right = [
            (
                "everything is sent",
                accepted + unknown_sends == self.plan.messages,
            ),
            ("nothing is lost", lost == 0),
            (
                "nothing appears that was not sent",
                messages.unexpected.is_empty(),
            ),
            ("nothing is changed", messages.changed.is_empty()),
            (
                "a copy has one holder at a time",
                copies.overlapping.is_empty(),
            ),
            ("only holders' acks succeed", copies.false_acks.is_empty()),
            // AWS promises that for FIFO queues only; these servers keep to it for all.
            (
                "what was acked does not come again",
                seen.came_back.is_empty(),
            ),
            (
                "there are more copies only of unanswered sends",
                extra_copies <= unanswered_sends,
            ),
            (
                "acks are of unknown fate only without an answer",
                gone_unknown <= unanswered_acks,
            ),
            (
                "requests did fail",
                self.proxy.faults() > self.plan.messages / 100,
            ),
        ];
        for (what, is_right) in is_right {
            if !is_right {
                return Err(format!("it does not hold that {what}, see above").into());
            }
        }
        Ok(())
    }
}
