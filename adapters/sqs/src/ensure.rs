//! Queues as wanted: what is missing or different, and making it so.

mod differences;

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName as Name;
use tokio::time::{Instant, sleep};
use towpath_core::{Change, DeadLetterSpec, EnsureMode, ErrorKind, QueueSpec, Result};

use crate::{
    SqsAdmin,
    address::{self, Address},
    capabilities::LEASE,
    error::invalid_config,
    operation::{BACKEND, Operation},
    settings::{QueueSettings, RedriveAllowPolicy, RedrivePolicy},
};
use differences::{allow_difference, differences, redrive_difference, wanted_settings};

/// What a dead-letter queue that we create keeps its messages for: as long as SQS can.
const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(14 * 86_400);
/// How long a queue that was just created is waited for.
const APPEARS_WITHIN: Duration = Duration::from_secs(15);

/// A queue as it is; `None` where it does not exist.
type Live = Option<(String, QueueSettings)>;

pub(crate) async fn run(
    admin: &SqsAdmin,
    spec: &QueueSpec,
    mode: EnsureMode,
) -> Result<Vec<Change>> {
    check(&admin.address, spec)?;
    let live = find(admin).await?;
    let target = match &spec.dead_letter {
        Some(wanted) => {
            let queue = admin.beside(&wanted.queue)?;
            let live = find(&queue).await?;
            Some((queue, wanted, live))
        }
        None => None,
    };

    let mut changes = Vec::new();
    let mut plan = Plan::default();
    if let Some((queue, _, None)) = &target {
        plan.create_target = true;
        changes.push(created(&queue.address));
    }
    match &live {
        None => changes.push(created(&admin.address)),
        Some((_, settings)) => {
            plan.settings = differences(&admin.address.name, spec, settings)?;
            if let Some((queue, wanted, target)) = &target {
                let arn = match target {
                    Some((_, target)) => Some(target.arn()?),
                    None => None,
                };
                plan.redrive = redrive_difference(admin, queue, wanted, arn, settings)?;
            }
        }
    }
    if let Some((queue, _, Some((_, target_settings)))) = &target {
        let own = match &live {
            Some((_, settings)) => settings.arn()?.to_owned(),
            None => sibling_arn(target_settings.arn()?, &admin.address),
        };
        plan.allow = allow_difference(&queue.address.name, &own, target_settings)?;
    }
    let live_changes: Vec<Change> = plan.live_changes().cloned().collect();
    if mode == EnsureMode::Create && !live_changes.is_empty() {
        return Err(Change::refused(&live_changes).with_backend(BACKEND));
    }
    changes.extend(live_changes);
    if mode == EnsureMode::Plan {
        return Ok(changes);
    }
    apply(
        admin,
        spec,
        target.map(|(queue, wanted, live)| (queue, wanted.clone(), live)),
        live,
        plan,
    )
    .await?;
    Ok(changes)
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    create_target: bool,
    /// Settings of the live queue, with SQS's name and value.
    settings: Vec<(Change, Name, String)>,
    /// The live queue's redrive policy.
    redrive: Option<Change>,
    /// The live dead-letter queue's redrive allow policy.
    allow: Option<(Change, RedriveAllowPolicy)>,
}

impl Plan {
    fn live_changes(&self) -> impl Iterator<Item = &Change> {
        let settings = self.settings.iter().map(|(change, ..)| change);
        let allow = self.allow.iter().map(|(change, _)| change);
        settings.chain(&self.redrive).chain(allow)
    }
}

/// Makes it so, in an order in which each step finds what it needs, and which can be repeated when
/// it was interrupted.
async fn apply(
    admin: &SqsAdmin,
    spec: &QueueSpec,
    target: Option<(SqsAdmin, DeadLetterSpec, Live)>,
    live: Live,
    plan: Plan,
) -> Result<()> {
    let mut redrive = None;
    let mut new_target = None;
    if let Some((queue, wanted, found)) = target {
        let (url, settings) = match found {
            Some(found) => found,
            None => {
                let retention = seconds(DEAD_LETTER_RETENTION);
                let attributes = [(Name::MessageRetentionPeriod, retention)];
                create(&queue, HashMap::from(attributes)).await?
            }
        };
        let policy = RedrivePolicy {
            dead_letter_target_arn: settings.arn()?.to_owned(),
            max_receive_count: wanted.max_deliveries,
        };
        redrive = Some(to_json(&policy)?);
        if let Some((_, policy)) = &plan.allow {
            set(&queue, &url, [(Name::RedriveAllowPolicy, to_json(policy)?)]).await?;
        }
        new_target = plan.create_target.then_some((queue, url));
    }
    let own = match live {
        None => {
            let mut attributes: HashMap<Name, String> = wanted_settings(spec)
                .map(|(name, _, value)| (name, value))
                .collect();
            attributes.extend(redrive.map(|policy| (Name::RedrivePolicy, policy)));
            create(admin, attributes).await?.1
        }
        Some((url, settings)) => {
            let mut attributes: Vec<(Name, String)> = plan
                .settings
                .into_iter()
                .map(|(_, name, value)| (name, value))
                .collect();
            if plan.redrive.is_some() {
                attributes.extend(redrive.map(|policy| (Name::RedrivePolicy, policy)));
            }
            if !attributes.is_empty() {
                set(admin, &url, attributes).await?;
            }
            settings
        }
    };
    if let Some((queue, url)) = new_target {
        restrict(&queue, &url, own.arn()?).await?;
    }
    Ok(())
}

/// Lets only the queue `arn` use the new dead-letter queue.
///
/// Without this policy every queue of the account may, which is enough for servers that do not know
/// it.
async fn restrict(queue: &SqsAdmin, url: &str, arn: &str) -> Result<()> {
    let policy = to_json(&RedriveAllowPolicy::by_queue(vec![arn.to_owned()]))?;
    match set(queue, url, [(Name::RedriveAllowPolicy, policy)]).await {
        Err(error)
            if error.kind() == ErrorKind::InvalidConfig
                && error.message().contains("InvalidAttributeName") =>
        {
            tracing::warn!(
                queue = queue.address.name,
                %error,
                "this server has no RedriveAllowPolicy, so any queue may use the dead-letter queue"
            );
            Ok(())
        }
        set => set,
    }
}

/// Refuses what SQS cannot do, before anything is changed.
fn check(address: &Address, spec: &QueueSpec) -> Result<()> {
    let name = &address.name;
    let wrong = |text: String| Err(invalid_config(format!("queue {name}: {text}")));
    if spec.ordered != address.is_fifo() {
        return wrong(if spec.ordered {
            "an ordered queue is a FIFO queue, whose name ends in .fifo".to_owned()
        } else {
            "a queue whose name ends in .fifo is ordered; ask for an ordered queue".to_owned()
        });
    }
    if spec.exactly_once && !address.is_fifo() {
        return Err(Operation::Ensure.error(
            ErrorKind::Unsupported,
            format!("queue {name}: standard queues do not confirm acks; use a FIFO queue"),
        ));
    }
    let limits = [
        ("lease", spec.lease, LEASE),
        (
            "retention",
            spec.retention,
            Duration::from_secs(60)..=DEAD_LETTER_RETENTION,
        ),
    ];
    for (what, value, range) in limits {
        if value.is_some_and(|value| !range.contains(&value) || value.subsec_nanos() != 0) {
            return wrong(format!(
                "the {what} is whole seconds, from {} to {}",
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end()),
            ));
        }
    }
    if let Some(dead_letter) = &spec.dead_letter {
        let target = Address::parse(&dead_letter.queue).map_err(invalid_config)?;
        if target.is_fifo() != address.is_fifo() {
            return wrong(format!(
                "SQS wants the dead-letter queue of a FIFO queue to be a FIFO queue, and that of a \
                 standard queue a standard one, and {} is not",
                target.name
            ));
        }
        if target.name == *name {
            return wrong("it cannot be its own dead-letter queue".to_owned());
        }
        if !(1..=1_000).contains(&dead_letter.max_deliveries) {
            return wrong(format!(
                "max_deliveries is 1 to 1000, and {} is not",
                dead_letter.max_deliveries
            ));
        }
    }
    Ok(())
}

async fn find(admin: &SqsAdmin) -> Result<Live> {
    match admin.read(Operation::Ensure).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn created(address: &Address) -> Change {
    let kind = if address.is_fifo() {
        "FIFO"
    } else {
        "standard"
    };
    Change {
        setting: format!("queue {}", address.name),
        from: None,
        to: format!("{kind} queue"),
    }
}

/// Creates a queue and waits until SQS knows it everywhere, which takes about a second.
async fn create(
    admin: &SqsAdmin,
    mut attributes: HashMap<Name, String>,
) -> Result<(String, QueueSettings)> {
    let Address { name, account, .. } = &admin.address;
    if address::is_fifo(name) {
        attributes.insert(Name::FifoQueue, "true".to_owned());
    }
    let request = admin
        .clients
        .control
        .create_queue()
        .queue_name(name)
        .set_attributes(Some(attributes).filter(|attributes| !attributes.is_empty()));
    let answer = admin
        .clients
        .control_call(Operation::Ensure, name, request.send())
        .await?;
    let deadline = Instant::now() + APPEARS_WITHIN;
    let (url, settings) = loop {
        let read = match answer.queue_url() {
            Some(url) => {
                QueueSettings::read(&admin.clients, Operation::Ensure, &admin.address, url)
                    .await
                    .map(|settings| (url.to_owned(), settings))
            }
            None => admin.read(Operation::Ensure).await,
        };
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < deadline => {
                sleep(Duration::from_millis(500)).await;
            }
            read => break read?,
        }
    };
    // Queues are created in the caller's own account, whatever account was named.
    let made_in = Address::parse(settings.arn()?)
        .ok()
        .and_then(|made| made.account);
    if account.is_some() && *account != made_in {
        return Err(invalid_config(format!(
            "queue {name}: it was created in the account {}, and {} was asked for; use \
             credentials of that account, and delete the queue that was created",
            made_in.unwrap_or_default(),
            account.as_deref().unwrap_or_default(),
        )));
    }
    Ok((url, settings))
}

async fn set(
    admin: &SqsAdmin,
    url: &str,
    attributes: impl IntoIterator<Item = (Name, String)>,
) -> Result<()> {
    let request = admin
        .clients
        .control
        .set_queue_attributes()
        .queue_url(url)
        .set_attributes(Some(attributes.into_iter().collect()));
    admin
        .clients
        .control_call(Operation::Ensure, &admin.address.name, request.send())
        .await
        .map(drop)
}

/// The ARN that the queue at `address` will have beside the queue of `arn`.
fn sibling_arn(arn: &str, address: &Address) -> String {
    let arn = address::sibling(arn, &address.name);
    match (&address.account, arn.rsplit(':').nth(1)) {
        (Some(account), Some(other)) if account != other => {
            arn.replace(&format!(":{other}:"), &format!(":{account}:"))
        }
        _ => arn,
    }
}

fn seconds(duration: Duration) -> String {
    duration.as_secs().to_string()
}

fn to_json<T: serde::Serialize>(policy: &T) -> Result<String> {
    serde_json::to_string(policy)
        .map_err(|error| invalid_config("the policy has no JSON form").with_source(error))
}
