//! The administrating half.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::types::{ListMessageMoveTasksResultEntry, QueueAttributeName as Name};
use towpath_core::{
    Change, DeadLetterSpec, Depth, EnsureMode, Error, ErrorKind, QueueInfo, QueueOptions,
    QueueSpec, Result, driver,
};

use crate::{
    address::Address, connect::Clients, ensure, error::invalid_config, operation::Operation,
    settings::QueueSettings,
};

/// Administrates one queue: what every backend can do (it is a
/// [`driver::Admin`]), and SQS's own redrive.
///
/// Made by [`Sqs::sqs_admin`](crate::Sqs::sqs_admin).
#[derive(Clone, Debug)]
pub struct SqsAdmin {
    pub(crate) clients: Clients,
    pub(crate) address: Address,
    options: QueueOptions,
}

/// One of SQS's own redrives, as [`SqsAdmin::message_move_tasks`] lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MoveTask {
    /// What [`SqsAdmin::cancel_message_move_task`] wants; only running tasks have one.
    pub handle: Option<String>,
    /// `RUNNING`, `COMPLETED`, `CANCELLING`, `CANCELLED` or `FAILED`.
    pub status: String,
    /// How many messages were moved.
    pub moved: u64,
    /// How many there were to move at the start, approximately.
    pub to_move: Option<u64>,
    /// Why it failed.
    pub failure: Option<String>,
}

impl SqsAdmin {
    pub(crate) fn new(clients: Clients, address: Address, options: QueueOptions) -> Self {
        Self {
            clients,
            address,
            options,
        }
    }

    /// Starts SQS's own redrive of this dead-letter queue, and returns the task's handle.
    ///
    /// Messages go to `destination`, or back to where they came from. SQS moves at most
    /// `per_second` messages in a second (1 to 500; it decides by itself where there is none), one
    /// task per queue at a time, and gives them new ids. It moves what SQS itself
    /// dead-lettered: the failure record of a message that towpath dead-lettered stays on it, and
    /// such a message has no source that SQS knows of, so name a `destination`.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) where a task runs already or the queue is not the
    /// dead-letter queue of any other, [`InvalidConfig`](ErrorKind::InvalidConfig) for a rate or a
    /// destination that makes no sense, and what SQS reports.
    ///
    /// # Cancel safety
    ///
    /// Once the request is out, the task runs whether or not the future is dropped.
    pub async fn start_message_move_task(
        &self,
        destination: Option<&str>,
        per_second: Option<u32>,
    ) -> Result<String> {
        let operation = Operation::MoveTask;
        let rate = match per_second {
            Some(rate @ 1..=500) => i32::try_from(rate).ok(),
            Some(rate) => {
                return Err(invalid_config(format!(
                    "SQS moves 1 to 500 messages per second, and {rate} were asked for"
                )));
            }
            None => None,
        };
        let source = self.arn(operation).await?;
        let destination = match destination {
            Some(queue) => Some(self.beside(queue)?.arn(operation).await?),
            None => None,
        };
        let request = self
            .clients
            .data
            .start_message_move_task()
            .source_arn(source)
            .set_destination_arn(destination)
            .set_max_number_of_messages_per_second(rate);
        let answer = self
            .clients
            .control_call(operation, &self.address.name, request.send())
            .await?;
        answer
            .task_handle
            .ok_or_else(|| operation.error(ErrorKind::Unknown, "SQS answered without a handle"))
    }

    /// The running redrive of this dead-letter queue and up to nine earlier ones, the latest
    /// first.
    ///
    /// # Errors
    ///
    /// What SQS reports.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn message_move_tasks(&self) -> Result<Vec<MoveTask>> {
        let operation = Operation::MoveTask;
        let request = self
            .clients
            .control
            .list_message_move_tasks()
            .source_arn(self.arn(operation).await?)
            .max_results(10);
        let answer = self
            .clients
            .control_call(operation, &self.address.name, request.send())
            .await?;
        Ok(answer.results().iter().map(move_task).collect())
    }

    /// Stops a redrive. What was moved stays moved; returns how many messages that are.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when no such task runs, and what SQS reports.
    ///
    /// # Cancel safety
    ///
    /// Once the request is out, the task stops whether or not the future is dropped.
    pub async fn cancel_message_move_task(&self, handle: &str) -> Result<u64> {
        let request = self
            .clients
            .control
            .cancel_message_move_task()
            .task_handle(handle);
        let answer = self
            .clients
            .control_call(Operation::MoveTask, &self.address.name, request.send())
            .await?;
        Ok(unsigned(answer.approximate_number_of_messages_moved()))
    }

    /// The administrating half of another queue, by name, URL or ARN, over the same connection.
    pub(crate) fn beside(&self, queue: &str) -> Result<Self> {
        let mut address = Address::parse(queue).map_err(invalid_config)?;
        address.account = address.account.or_else(|| self.address.account.clone());
        Ok(Self::new(
            self.clients.clone(),
            address,
            QueueOptions::default(),
        ))
    }

    async fn url(&self, operation: Operation) -> Result<String> {
        self.clients.queue_url(operation, &self.address).await
    }

    async fn arn(&self, operation: Operation) -> Result<String> {
        let (_, settings) = self.read(operation).await?;
        settings.arn().map(str::to_owned)
    }

    /// The queue's URL and settings.
    pub(crate) async fn read(&self, operation: Operation) -> Result<(String, QueueSettings)> {
        let url = self.url(operation).await?;
        let settings = QueueSettings::read(&self.clients, operation, &self.address, &url).await?;
        Ok((url, settings))
    }

    /// What would lose or strand messages as things are.
    async fn warnings(&self, settings: &QueueSettings) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        if settings.visibility_timeout() == Some(Duration::ZERO) {
            warnings.push(
                "VisibilityTimeout is 0: consumers that do not set a lease of their own get \
                 every message at once; set it to 30 s or so"
                    .to_owned(),
            );
        }
        let Some(policy) = settings.redrive_policy()? else {
            warnings.push(
                "there is no RedrivePolicy: a message whose consumer crashes each time comes \
                 back until it is too old and is then lost; provision the queue with a \
                 dead-letter queue"
                    .to_owned(),
            );
            return Ok(warnings);
        };
        let count = policy.max_receive_count;
        match self.options.max_attempts {
            Some(attempts) if count <= attempts => warnings.push(format!(
                "maxReceiveCount is {count} and max_attempts is {attempts}: SQS moves messages \
                 before the consumer can, and without the reason; set maxReceiveCount to {} or \
                 more",
                attempts.saturating_add(3)
            )),
            None if count < 3 => warnings.push(format!(
                "maxReceiveCount is {count}: a lost connection or a restart can be enough to \
                 dead-letter a message; set it to 5 or more"
            )),
            _ => {}
        }
        let arn = policy.dead_letter_target_arn;
        if let Some(wanted) = &self.options.dead_letter
            && !wanted.contains("://")
            && let Ok(target) = Address::parse(&arn)
            && Address::parse(wanted).is_ok_and(|wanted| wanted.name != target.name)
        {
            warnings.push(format!(
                "the RedrivePolicy moves messages to {}, and dead_letter is {wanted}: dead \
                 letters go to two places; make them the same",
                target.name
            ));
        }
        let dead_letter = match self.beside(&arn)?.read(Operation::Inspect).await {
            Ok((_, dead_letter)) => dead_letter,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                warnings.push(format!(
                    "the dead-letter queue {arn} does not exist: SQS cannot move messages there; \
                     create it"
                ));
                return Ok(warnings);
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                warnings.push(format!(
                    "the settings of the dead-letter queue {arn} may not be read, so they were \
                     not checked"
                ));
                return Ok(warnings);
            }
            Err(error) => return Err(error),
        };
        if let (Some(source), Some(target)) = (settings.retention(), dead_letter.retention())
            && target <= source
        {
            warnings.push(format!(
                "the dead-letter queue {arn} keeps messages for {}, no longer than the queue \
                 itself ({}), and counts from when they were sent first: they are lost early; set \
                 its MessageRetentionPeriod to 14 days",
                humantime::format_duration(target),
                humantime::format_duration(source),
            ));
        }
        if let (Some(allow), Ok(own)) = (dead_letter.redrive_allow_policy()?, settings.arn())
            && !allow.allows(own)
        {
            warnings.push(format!(
                "the RedriveAllowPolicy of the dead-letter queue {arn} does not allow this \
                 queue; add {own}"
            ));
        }
        Ok(warnings)
    }
}

fn move_task(entry: &ListMessageMoveTasksResultEntry) -> MoveTask {
    MoveTask {
        handle: entry.task_handle().map(str::to_owned),
        status: entry.status().unwrap_or("UNKNOWN").to_owned(),
        moved: unsigned(entry.approximate_number_of_messages_moved()),
        to_move: entry.approximate_number_of_messages_to_move().map(unsigned),
        failure: entry.failure_reason().map(str::to_owned),
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[async_trait]
impl driver::Admin for SqsAdmin {
    async fn ensure(&self, spec: &QueueSpec, mode: EnsureMode) -> Result<Vec<Change>> {
        ensure::run(self, spec, mode).await
    }

    async fn inspect(&self) -> Result<QueueInfo> {
        let (url, settings) = self.read(Operation::Inspect).await?;
        let mut info = QueueInfo::new(url);
        info.lease = settings.visibility_timeout();
        info.ordered = settings.is_fifo();
        info.exactly_once = settings.is_fifo();
        info.retention = settings.retention();
        info.dead_letter = settings.redrive_policy()?.map(|policy| DeadLetterSpec {
            queue: short_name(&policy.dead_letter_target_arn),
            max_deliveries: policy.max_receive_count,
        });
        info.settings = settings
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>();
        info.warnings = self.warnings(&settings).await?;
        Ok(info)
    }

    async fn depth(&self) -> Result<Depth> {
        let (_, settings) = self.read(Operation::Depth).await?;
        let count = |name: Name| {
            settings.number(name.clone()).ok_or_else(|| -> Error {
                Operation::Depth.error(
                    ErrorKind::Unknown,
                    format!("queue {}: SQS did not tell its {name}", self.address.name),
                )
            })
        };
        Ok(Depth::new(
            count(Name::ApproximateNumberOfMessages)?,
            count(Name::ApproximateNumberOfMessagesNotVisible)?,
            count(Name::ApproximateNumberOfMessagesDelayed)?,
        ))
    }

    async fn purge(&self) -> Result<()> {
        let url = self.url(Operation::Purge).await?;
        // Not repeated by the client: a purge that is repeated is refused.
        let request = self.clients.data.purge_queue().queue_url(url);
        self.clients
            .control_call(Operation::Purge, &self.address.name, request.send())
            .await
            .map(drop)
    }

    async fn delete(&self) -> Result<()> {
        let url = self.url(Operation::Delete).await?;
        let request = self.clients.control.delete_queue().queue_url(url);
        self.clients
            .control_call(Operation::Delete, &self.address.name, request.send())
            .await
            .map(drop)
    }
}

/// The name that an ARN ends in.
fn short_name(arn: &str) -> String {
    Address::parse(arn).map_or_else(|_| arn.to_owned(), |address| address.name)
}
