//! Delays that are longer than a message is held: a copy that waits for its time takes its place.
//!
//! The copy goes to the topic, so nobody else may listen there. It is published first and the
//! message acked then, so a crash in between duplicates and never loses. A copy that comes before
//! its time is held, and when that takes too long replaced by the next copy: an open lease has an
//! end, and a nack would use up an attempt.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use google_cloud_pubsub::model::Subscription;
use tokio::{
    sync::{Mutex, OnceCell, watch},
    time::{Instant, timeout},
};
use towpath_core::{Envelope, Error, ErrorKind, Result, driver::Receipt, wire::Delayed};

use super::{Shared, give_back, receipt::confirm, state::Renewal};
use crate::{
    admin,
    connect::Clients,
    error::{Operation, of_publish},
    message,
    options::{Receiving, Sending},
    publishers::Publishers,
};

/// What one needs to publish.
const PUBLISH: &str = "pubsub.topics.publish";
/// How long the service keeps messages, unless told otherwise.
const RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// For how long it is taken for granted that nobody else subscribes.
const TRUST: Duration = Duration::from_secs(60);

/// Publishes copies to the topic of a subscription.
pub(crate) struct Copier {
    clients: Clients,
    topic: String,
    /// The subscription's full name.
    subscription: String,
    /// The longest delay.
    longest: Duration,
    sending: Sending,
    publishers: OnceCell<Publishers>,
    /// When nobody else subscribed.
    alone: Mutex<Instant>,
}

impl Copier {
    /// Looks whether copies may take the place of messages of `live`. `None` where a copy would be
    /// out of order, reach others, or could not be published.
    pub(crate) async fn open(
        clients: &Clients,
        topic: &str,
        live: &Subscription,
        receiving: &Receiving,
        sending: &Sending,
    ) -> Result<Option<Self>> {
        let name = &live.name;
        let none = |why: &str| {
            let longest = humantime::format_duration(receiving.nack_delay);
            tracing::debug!(subscription = name, %longest, why, "nacks cannot be delayed for longer");
            Ok(None)
        };
        if receiving.max_held == 0 {
            return none("no message may be held");
        }
        if live.enable_message_ordering {
            return none("a copy would come behind later messages of its key");
        }
        if !live.message_transforms.is_empty() {
            return none("the subscription transforms messages, and would transform a copy again");
        }
        let found = tokio::try_join!(
            admin::topic(clients, Operation::Open, topic),
            admin::subscriptions_of(clients, Operation::Open, topic),
        );
        let names = match found {
            Ok((Some(found), names)) if found.message_transforms.is_empty() => names,
            Ok((Some(_), _)) => return none("the topic transforms messages"),
            Ok((None, _)) => return none("the topic does not exist"),
            Err(error) if is_hidden(&error) => return none("the topic may not be looked at"),
            Err(error) => return Err(error),
        };
        if names != [name.as_str()] {
            return none("the topic has other subscriptions, which would get the copies too");
        }
        if !may_publish(clients, topic).await {
            return none("the topic may not be published to");
        }
        let retention = live
            .message_retention_duration
            .and_then(|time| Duration::try_from(time).ok())
            .unwrap_or(RETENTION);
        Ok(Some(Self {
            clients: clients.clone(),
            topic: topic.to_owned(),
            subscription: name.clone(),
            longest: retention.max(receiving.nack_delay),
            // A message that is refused takes no other one with it.
            sending: Sending {
                batch_messages: 1,
                linger: Duration::ZERO,
                ..sending.clone()
            },
            publishers: OnceCell::new(),
            alone: Mutex::new(Instant::now()),
        }))
    }

    /// The longest delay: as long as the subscription keeps a message that nobody receives.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The copy of a message that must not be handed out before `due`.
    fn delayed(&self, original: &Envelope, due: SystemTime) -> Delayed {
        Delayed::new(self.subscription.as_str(), due)
            .with_attempts(original.attempt.unwrap_or(0))
            .with_first_sent(original.sent_at)
    }

    /// Publishes a copy. It is in the topic when this returns `Ok`.
    async fn publish(&self, original: &Envelope, delayed: Delayed) -> Result<()> {
        let limit = self.clients.request_timeout();
        let published = async {
            self.check_alone().await?;
            let publishers = self
                .publishers
                .get_or_try_init(|| async {
                    let base = self.clients.publisher().await?;
                    Ok::<_, Error>(Publishers::new(
                        base,
                        self.topic.clone(),
                        self.sending.clone(),
                    ))
                })
                .await?;
            let key = original.message.ordering_key();
            let lane = publishers.lane(key);
            let copy = message::to_delayed(&original.message, delayed);
            let result = lane.publisher.publish(copy).await;
            if let (Some(key), Err(_)) = (key, &result) {
                lane.publisher.resume_publish(key);
            }
            result
                .map(drop)
                .map_err(|error| self.unpublished(of_publish(&self.topic, error)))
        };
        match timeout(limit, published).await {
            Ok(result) => result,
            Err(_) => Err(Operation::Nack.timed_out(&self.topic, limit)),
        }
    }

    fn unpublished(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::PermissionDenied {
            return error.with_operation(Operation::Nack.name());
        }
        let text = format!(
            "{}: a delay longer than nack_delay takes a copy, and this account may not publish one; \
             grant it roles/pubsub.publisher on the topic",
            self.topic
        );
        Operation::Nack
            .error(ErrorKind::PermissionDenied, text)
            .with_source(error)
    }

    /// Looks again, after a while, whether anybody else subscribes.
    async fn check_alone(&self) -> Result<()> {
        // One asks, and the others wait for the answer.
        let mut last = self.alone.lock().await;
        if last.elapsed() < TRUST {
            return Ok(());
        }
        let names = admin::subscriptions_of(&self.clients, Operation::Nack, &self.topic).await?;
        if names != [self.subscription.as_str()] {
            return Err(Operation::Nack.error(
                ErrorKind::Unsupported,
                format!(
                    "{} has other subscriptions by now, which would get a copy that waits for its \
                     time too; delay by nack_delay at most, and give this queue a topic of its own",
                    self.topic
                ),
            ));
        }
        *last = Instant::now();
        Ok(())
    }
}

fn is_hidden(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::NotFound
    )
}

/// Whether this account may publish. Where that cannot be found out, the first copy tells.
async fn may_publish(clients: &Clients, topic: &str) -> bool {
    if clients.is_anonymous() {
        return true;
    }
    let asked = async {
        let policies = clients.policies().await?;
        let call = policies
            .test_iam_permissions()
            .set_resource(topic)
            .set_permissions([PUBLISH])
            .send();
        clients.call(Operation::Open, topic, call).await
    };
    match asked.await {
        Ok(granted) => granted.permissions.iter().any(|one| one == PUBLISH),
        Err(error) => {
            tracing::debug!(%error, "whether copies may be published is not known");
            true
        }
    }
}

/// A copy that is to take the place of what was handed out.
pub(super) struct Replacement {
    pub(super) entry: u64,
    pub(super) original: Envelope,
    pub(super) due: SystemTime,
    /// Until when it may stay handed out.
    pub(super) until: Instant,
    pub(super) report: watch::Sender<Option<Result<()>>>,
}

/// Publishes a copy and acks the message. It stays with its caller when the copy fails: `receipt`
/// keeps it while this runs, also when the caller goes away.
pub(super) async fn replace(
    shared: Arc<Shared>,
    copier: Arc<Copier>,
    replacement: Replacement,
    receipt: Receipt,
) {
    let Replacement {
        entry,
        original,
        due,
        until,
        report,
    } = replacement;
    let delayed = copier.delayed(&original, due);
    if let Err(error) = copier.publish(&original, delayed).await {
        shared.lock().keep(entry, until);
        // When nobody has a receipt any more, this gives the message back.
        drop(receipt);
        let _ = report.send(Some(Err(error)));
        return;
    }
    let handles = shared.lock().handles(entry);
    confirm(shared, entry, handles, report).await;
}

/// Replaces a copy that is here, and must still wait, by the next one. Without a copier it is held
/// on: it was made when nobody else subscribed, or by an account that may publish.
pub(super) async fn renew(shared: Arc<Shared>, renewal: Renewal) {
    let Renewal {
        entry,
        copy,
        early,
        report,
    } = renewal;
    let published = match &shared.copier {
        Some(copier) => copier.publish(&copy, early.delayed.clone()).await,
        None => Err(Operation::Nack.error(
            ErrorKind::Unsupported,
            "no copies are made here; see the README about long delays",
        )),
    };
    match published {
        Ok(()) => {
            let handles = shared.lock().handles(entry);
            confirm(shared, entry, handles, report).await;
        }
        Err(error) => {
            tracing::warn!(subscription = shared.subscription, %error, "a message that waits for its time could not be copied; it is held on");
            let given_up = shared.lock().hold_on(entry, early, Instant::now());
            give_back(given_up);
            shared.settled(true);
        }
    }
}
