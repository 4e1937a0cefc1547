//! The receiving half.

use std::{num::NonZeroUsize, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use towpath_core::{
    Capabilities, ErrorKind, Result,
    driver::{self, Receipt, Received},
};

use crate::{error::Operation, pump::Pump};

#[derive(Debug)]
pub(crate) struct PubSubConsumer {
    capabilities: Capabilities,
    pump: Pump,
    /// The subscription, for error messages.
    subscription: String,
    request_timeout: Duration,
}

impl PubSubConsumer {
    pub(crate) fn new(
        capabilities: Capabilities,
        pump: Pump,
        subscription: String,
        request_timeout: Duration,
    ) -> Self {
        Self {
            capabilities,
            pump,
            subscription,
            request_timeout,
        }
    }

    /// Waits for settlements. All are on their way before the first is waited for.
    async fn all(
        &self,
        operation: Operation,
        settlements: Vec<Result<Option<impl Future<Output = Result<()>>>>>,
    ) -> Vec<Result<()>> {
        let deadline = Instant::now() + self.request_timeout;
        let mut results = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            results.push(match settlement {
                Ok(None) => Ok(()),
                Ok(Some(outcome)) => timeout_at(deadline, outcome).await.unwrap_or_else(|_| {
                    Err(operation.timed_out(&self.subscription, self.request_timeout))
                }),
                Err(error) => Err(error),
            });
        }
        results
    }
}

#[async_trait]
impl driver::Consumer for PubSubConsumer {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        self.pump.receive(max, wait).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        if self.pump.is_closed() {
            return vec![Err(Operation::Ack.closed()); receipts.len()];
        }
        self.all(Operation::Ack, self.pump.ack(receipts)).await
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        if self.pump.is_closed() {
            return vec![Err(Operation::Nack.closed()); receipts.len()];
        }
        let nacks = receipts
            .iter()
            .map(|receipt| self.pump.nack(receipt, delay));
        self.all(Operation::Nack, nacks.collect()).await
    }

    async fn extend(&self, receipts: &[Receipt], _lease: Duration) -> Vec<Result<()>> {
        if self.pump.is_closed() {
            return vec![Err(Operation::Extend.closed()); receipts.len()];
        }
        receipts
            .iter()
            .map(|receipt| {
                self.pump.check(receipt, Operation::Extend)?;
                Err(Operation::Extend.error(
                    ErrorKind::Unsupported,
                    "the client library keeps the leases of Pub/Sub; leave it to max_lease",
                ))
            })
            .collect()
    }

    async fn close(&self) -> Result<()> {
        self.pump.close().await
    }
}
