//! Ways to wait for messages.

use std::{num::NonZeroUsize, time::Duration};

use tokio::time::{Instant, timeout_at};
use towpath_core::{
    Consumer, Delivery,
    driver::{self, Received},
};

use super::{Context, shown};
use crate::CaseError;

impl Context {
    /// The next message; it must be there at once, or come soon.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when none comes.
    pub async fn receive(&self, consumer: &Consumer) -> Result<Delivery, CaseError> {
        self.receive_within(consumer, self.patience()).await
    }

    /// The next message, which must come within `limit`.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when none comes.
    pub async fn receive_within(
        &self,
        consumer: &Consumer,
        limit: Duration,
    ) -> Result<Delivery, CaseError> {
        match timeout_at(Instant::now() + limit, consumer.receive()).await {
            Ok(delivery) => Ok(delivery?),
            Err(_) => Err(CaseError::failed(format!(
                "no message came within {}",
                humantime::format_duration(limit)
            ))),
        }
    }

    /// Takes `count` messages and keeps all of them.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when they do not come.
    pub async fn receive_many(
        &self,
        consumer: &Consumer,
        count: usize,
    ) -> Result<Vec<Delivery>, CaseError> {
        let deadline = Instant::now() + self.patience();
        let mut deliveries: Vec<Delivery> = Vec::with_capacity(count);
        while deliveries.len() < count {
            let missing = count - deliveries.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let received = match timeout_at(
                deadline + self.slack(),
                consumer.receive_batch(missing, left),
            )
            .await
            {
                Ok(received) => received?,
                Err(_) => Vec::new(),
            };
            if received.is_empty() && Instant::now() >= deadline {
                return Err(CaseError::failed(format!(
                    "{} of {count} messages came within {}",
                    deliveries.len(),
                    humantime::format_duration(self.patience())
                )));
            }
            deliveries.extend(received);
        }
        Ok(deliveries)
    }

    /// Nothing may be delivered for `time`.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when something is, with `why` it must not.
    pub async fn nothing(
        &self,
        consumer: &Consumer,
        time: Duration,
        why: &str,
    ) -> Result<(), CaseError> {
        let begun = Instant::now();
        let deadline = begun + time;
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let received =
                match timeout_at(deadline + self.slack(), consumer.receive_batch(1, left)).await {
                    Ok(received) => received?,
                    Err(_) => break,
                };
            if let Some(delivery) = received.first() {
                return Err(CaseError::failed(format!(
                    "{} was delivered after {:?} (attempt {:?}), but {why}",
                    shown(delivery.envelope()),
                    begun.elapsed(),
                    delivery.attempt(),
                )));
            }
        }
        Ok(())
    }

    /// The next message by the driver itself, whose lease nobody keeps alive.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when none comes.
    pub async fn receive_raw(&self, driver: &dyn driver::Consumer) -> Result<Received, CaseError> {
        let mut received = self.receive_raw_many(driver, 1).await?;
        received
            .pop()
            .ok_or_else(|| CaseError::failed("the driver returned more than was asked for"))
    }

    /// Takes `count` messages by the driver itself.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when they do not come.
    pub async fn receive_raw_many(
        &self,
        driver: &dyn driver::Consumer,
        count: usize,
    ) -> Result<Vec<Received>, CaseError> {
        let limits = &driver.capabilities().limits;
        let deadline = Instant::now() + self.patience();
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let missing = (count - all.len()).min(limits.receive_batch);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CaseError::failed(format!(
                    "{} of {count} messages came within {}",
                    all.len(),
                    humantime::format_duration(self.patience())
                )));
            }
            // To its end, because dropping a driver's receive may strand messages.
            let max = NonZeroUsize::new(missing).unwrap_or(NonZeroUsize::MIN);
            all.extend(driver.receive(max, left.min(limits.wait)).await?);
        }
        Ok(all)
    }
}
