//! An opened queue: what its halves share.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_sqs::types::BatchResultErrorEntry;
use towpath_core::{Capabilities, Error, ErrorKind, QueueOptions, Result};

use crate::{
    address::Address, capabilities, connect::Clients, error, operation::Operation,
    settings::QueueSettings,
};

/// An opened queue.
#[derive(Debug)]
pub(crate) struct OpenQueue {
    pub(crate) clients: Clients,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) is_fifo: bool,
    pub(crate) capabilities: Capabilities,
    closed: AtomicBool,
}

impl OpenQueue {
    /// Finds the queue and reads its settings.
    pub(crate) async fn open(
        clients: Clients,
        address: &Address,
        options: &QueueOptions,
    ) -> Result<Self> {
        let url = clients.queue_url(Operation::Open, address).await?;
        let settings = QueueSettings::read(&clients, Operation::Open, address, &url).await?;
        let capabilities = capabilities::of_queue(address, &settings, options)?;
        Ok(Self {
            clients,
            name: address.name.clone(),
            url,
            is_fifo: capabilities.ordering,
            capabilities,
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The error of a call after `close`, where it was called.
    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.is_closed() {
            return Err(operation.error(
                ErrorKind::Closed,
                "it was closed; open the queue again to go on",
            ));
        }
        Ok(())
    }

    /// The error of an entry that SQS says failed.
    pub(crate) fn entry_error(&self, operation: Operation, entry: &BatchResultErrorEntry) -> Error {
        error::of_entry(
            operation,
            &self.name,
            entry.code(),
            entry.message(),
            entry.sender_fault(),
        )
    }

    /// The fates of all entries: those that SQS says nothing about failed.
    pub(crate) fn complete<T>(
        &self,
        operation: Operation,
        fates: Vec<Option<Result<T>>>,
    ) -> Vec<Result<T>> {
        let fates = fates.into_iter();
        fates
            .map(|fate| fate.unwrap_or_else(|| Err(self.missing(operation))))
            .collect()
    }

    fn missing(&self, operation: Operation) -> Error {
        operation
            .error(
                ErrorKind::Unknown,
                format!(
                    "queue {}: the answer of SQS leaves this entry out, so its fate is unknown",
                    self.name
                ),
            )
            .with_retryable(true)
    }
}

/// The place of an entry in its request, by the id that it was given.
pub(crate) fn place<'a, T>(results: &'a mut [T], id: &str) -> Option<&'a mut T> {
    id.parse()
        .ok()
        .and_then(|place: usize| results.get_mut(place))
}
