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
        let deadline = Instant::now() + self.request_timeout;
        // All are on their way before the first is waited for.
        let acks = self.pump.ack(receipts);
        let mut results = Vec::with_capacity(acks.len());
        for ack in acks {
            results.push(match ack {
                Ok(None) => Ok(()),
                Ok(Some(confirmation)) => {
                    timeout_at(deadline, confirmation)
                        .await
                        .unwrap_or_else(|_| {
                            Err(Operation::Ack.timed_out(&self.subscription, self.request_timeout))
                        })
                }
                Err(error) => Err(error),
            });
        }
        results
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        if self.pump.is_closed() {
            return vec![Err(Operation::Nack.closed()); receipts.len()];
        }
        receipts
            .iter()
            .map(|receipt| self.pump.nack(receipt, delay))
            .collect()
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
