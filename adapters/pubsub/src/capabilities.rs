//! What an opened queue can do, from the subscription as it is.

use std::time::Duration;

use google_cloud_pubsub::model::Subscription;
use towpath_core::{AckStatus, Attempts, Capabilities, Lease, Limits, Precision};

use crate::{message, options::Receiving};

/// The most messages that one call takes. The client library splits them into requests.
const BATCH: usize = 1_000;
/// The longest that one receive waits.
const WAIT: Duration = Duration::from_secs(3_600);

/// What the queue can do. Without a subscription that may be read, what depends on it is not
/// claimed, except for what `ordering` says.
pub(crate) fn of_queue(
    subscription: Option<&Subscription>,
    receiving: &Receiving,
    ordering: bool,
) -> Capabilities {
    let mut limits = Limits::default();
    limits.message_bytes = message::BYTES;
    limits.empty_body = true;
    limits.attributes = message::ATTRIBUTES;
    limits.attribute_name_bytes = message::ATTRIBUTE_NAME_BYTES;
    limits.attribute_value_bytes = message::ATTRIBUTE_VALUE_BYTES;
    limits.empty_attribute_value = true;
    limits.ordering_key_bytes = message::ORDERING_KEY_BYTES;
    limits.send_batch = BATCH;
    limits.send_batch_bytes = message::BYTES;
    limits.receive_batch = BATCH;
    limits.settle_batch = BATCH;
    limits.wait = WAIT;
    limits.delay = Duration::ZERO;
    limits.nack_delay = receiving.nack_delay;

    let lease = Lease::Managed {
        max_total: receiving.max_lease,
    };
    let mut capabilities = Capabilities::new(limits, lease);
    capabilities.depth = Precision::Unknown;
    capabilities.purge = true;
    capabilities.gather = false;
    capabilities.cancel_safe_receive = true;
    capabilities.ordering = subscription.map_or(ordering, |found| found.enable_message_ordering);
    if let Some(found) = subscription {
        if found.dead_letter_policy.is_some() {
            capabilities.attempts = Attempts::Approximate;
            capabilities.broker_dead_letter = true;
        }
        if found.enable_exactly_once_delivery {
            capabilities.ack = AckStatus::Confirmed;
        }
    }
    capabilities
}

#[cfg(test)]
mod tests {
    use google_cloud_pubsub::model::DeadLetterPolicy;
    use towpath_core::QueueConfig;

    use super::*;

    #[test]
    fn what_the_subscription_does_not_have_is_not_claimed() {
        let config = QueueConfig::parse("pubsub://p/orders?max_lease=10m").unwrap();
        let receiving = Receiving::of(&config).unwrap();
        let plain = of_queue(Some(&Subscription::new()), &receiving, true);
        assert!(!plain.ordering);
        assert_eq!(plain.attempts, Attempts::Uncounted);
        assert_eq!(plain.ack, AckStatus::Submitted);
        assert!(!plain.broker_dead_letter);
        assert_eq!(plain.lease.max_total(), Duration::from_secs(600));

        let full = Subscription::new()
            .set_enable_message_ordering(true)
            .set_enable_exactly_once_delivery(true)
            .set_dead_letter_policy(DeadLetterPolicy::new());
        let full = of_queue(Some(&full), &receiving, false);
        assert!(full.ordering && full.broker_dead_letter);
        assert_eq!(full.attempts, Attempts::Approximate);
        assert_eq!(full.ack, AckStatus::Confirmed);

        assert!(!of_queue(None, &receiving, false).ordering);
        assert!(of_queue(None, &receiving, true).ordering);
    }
}
