//! What an opened queue can do, from its own settings.

use std::{ops::RangeInclusive, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName as Name;
use towpath_core::{
    AckStatus, Attempts, Capabilities, Lease, Limits, Precision, QueueOptions, Result, wire,
};

use crate::{address::Address, error::invalid_config, settings::QueueSettings};

/// The lengths of a lease, in whole seconds.
pub(crate) const LEASE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(12 * 3_600);
/// The most entries of a batch request.
pub(crate) const BATCH: usize = 10;
/// The longest wait of a receive.
pub(crate) const WAIT: Duration = Duration::from_secs(20);
/// The longest delay of a message of a standard queue.
pub(crate) const DELAY: Duration = Duration::from_secs(900);
/// How long a FIFO queue remembers a deduplication id.
pub(crate) const DEDUP_WINDOW: Duration = Duration::from_secs(300);
/// The most bytes of one batch request, all messages together.
const BATCH_BYTES: usize = 1_024 * 1_024;
/// The largest message where the queue does not tell.
const MESSAGE_BYTES: usize = 256 * 1_024;
/// How long a message can be invisible in all since it was received: 12 h, less the time that
/// requests take.
const INVISIBLE: Duration = Duration::from_secs(12 * 3_600 - 60);
/// What of it is kept for the delay of a nack, however long the message was held.
const NACK_DELAY: Duration = Duration::from_secs(600);
/// How long a message is held at most where the options do not say.
const MAX_LEASE: Duration = Duration::from_secs(3_600);
/// What the type of an attribute counts towards a message's size.
pub(crate) const STRING: &str = "String";

/// What the queue can do when it is used with `options`.
pub(crate) fn of_queue(
    address: &Address,
    settings: &QueueSettings,
    options: &QueueOptions,
) -> Result<Capabilities> {
    let is_fifo = settings.is_fifo() || address.is_fifo();
    let name = &address.name;

    let reserved = wire::RESERVED_ATTRIBUTE.len() + STRING.len() + wire::RESERVED_BYTES;
    let largest = settings
        .number::<usize>(Name::MaximumMessageSize)
        .unwrap_or(MESSAGE_BYTES);
    let message_bytes = largest.saturating_sub(reserved);
    if message_bytes == 0 {
        return Err(invalid_config(format!(
            "queue {name}: its MaximumMessageSize of {largest} bytes leaves no room beside the \
             {reserved} bytes that every message needs; raise it"
        )));
    }

    let duration = match options.lease {
        Some(lease) => lease,
        None => settings.visibility_timeout().unwrap_or_default(),
    };
    if !LEASE.contains(&duration) {
        return Err(invalid_config(format!(
            "queue {name}: its VisibilityTimeout of {} means that no message is ever held; set \
             it to 30 s or so, or add lease=30s",
            humantime::format_duration(duration)
        )));
    }
    // What is held for `max_lease` can still be delayed by `nack_delay`.
    let max_total = INVISIBLE - NACK_DELAY;
    let max_lease = options.max_lease.unwrap_or(MAX_LEASE).min(max_total);

    let mut limits = Limits::default();
    limits.message_bytes = message_bytes;
    limits.empty_body = false;
    limits.attributes = 9;
    limits.attribute_name_bytes = 256;
    limits.attribute_value_bytes = message_bytes;
    limits.empty_attribute_value = false;
    limits.ordering_key_bytes = 128;
    limits.send_batch = BATCH;
    limits.send_batch_bytes = BATCH_BYTES - BATCH * reserved;
    limits.receive_batch = BATCH;
    limits.settle_batch = BATCH;
    limits.wait = WAIT;
    limits.delay = if is_fifo { Duration::ZERO } else { DELAY };
    limits.nack_delay = INVISIBLE - max_lease;

    let mut capabilities = Capabilities::new(
        limits,
        Lease::Extended {
            duration,
            range: LEASE,
            max_total,
        },
    );
    capabilities.ordering = is_fifo;
    capabilities.dedup_window = is_fifo.then_some(DEDUP_WINDOW);
    capabilities.attempts = Attempts::Approximate;
    // A FIFO queue refuses a late delete; a standard queue takes it, and may deliver again.
    capabilities.ack = if is_fifo {
        AckStatus::Confirmed
    } else {
        AckStatus::Submitted
    };
    capabilities.broker_dead_letter = settings.redrive_policy()?.is_some();
    capabilities.depth = Precision::Approximate;
    capabilities.purge = true;
    Ok(capabilities)
}

/// Checks what the portable options ask of SQS; no I/O.
pub(crate) fn check_lease(lease: Option<Duration>) -> Result<(), String> {
    match lease {
        Some(lease) if !LEASE.contains(&lease) || lease.subsec_nanos() != 0 => {
            Err("SQS leases for whole seconds, from 1s to 12h".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use towpath_core::ErrorKind;

    fn queue(
        name: &str,
        attributes: &[(Name, &str)],
        options: &QueueOptions,
    ) -> Result<Capabilities> {
        let address = Address::parse(name).unwrap();
        let mut all = HashMap::from([
            (Name::VisibilityTimeout, "45".to_owned()),
            (Name::MaximumMessageSize, "262144".to_owned()),
        ]);
        all.extend(attributes.iter().map(|(n, v)| (n.clone(), (*v).to_owned())));
        of_queue(&address, &QueueSettings::new(all), options)
    }

    #[test]
    fn the_queue_s_own_settings_decide() {
        let standard = queue("orders", &[], &QueueOptions::default()).unwrap();
        assert_eq!(standard.lease.duration(), Some(Duration::from_secs(45)));
        assert_eq!(standard.limits.message_bytes, 262_144 - 7 - 6 - 1_024);
        assert_eq!(standard.limits.delay, Duration::from_secs(900));
        assert!(!standard.ordering && standard.dedup_window.is_none());
        assert!(!standard.broker_dead_letter);
        assert_eq!(standard.ack, AckStatus::Submitted);

        let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:dlq","maxReceiveCount":5}"#;
        let attributes = [(Name::FifoQueue, "true"), (Name::RedrivePolicy, policy)];
        let fifo = queue("orders.fifo", &attributes, &QueueOptions::default()).unwrap();
        assert!(fifo.ordering && fifo.dedup_window.is_some() && fifo.broker_dead_letter);
        assert_eq!(fifo.limits.delay, Duration::ZERO);
        assert_eq!(fifo.ack, AckStatus::Confirmed);
    }

    #[test]
    fn what_is_held_longest_can_still_be_delayed_within_twelve_hours() {
        let hours = |n: u64| Duration::from_secs(n * 3_600);
        for max_lease in [
            None,
            Some(hours(1)),
            Some(hours(6)),
            Some(hours(12)),
            Some(hours(99)),
        ] {
            let mut options = QueueOptions::default();
            options.max_lease = max_lease;
            let found = queue("orders", &[], &options).unwrap();
            let held = max_lease.unwrap_or(hours(1)).min(found.lease.max_total());
            assert!(held + found.limits.nack_delay < hours(12), "{max_lease:?}");
            assert!(
                found.limits.nack_delay >= Duration::from_secs(600),
                "{max_lease:?}"
            );
        }
    }

    #[test]
    fn the_option_overrides_the_queue_s_lease() {
        let mut options = QueueOptions::default();
        options.lease = Some(Duration::from_secs(90));
        let found = queue("orders", &[(Name::VisibilityTimeout, "0")], &options).unwrap();
        assert_eq!(found.lease.duration(), Some(Duration::from_secs(90)));
    }

    #[test]
    fn a_queue_that_cannot_be_used_is_refused_with_what_to_do() {
        for (name, value, part) in [
            (Name::VisibilityTimeout, "0", "lease=30s"),
            (Name::MaximumMessageSize, "1024", "raise it"),
        ] {
            let error = queue("orders", &[(name, value)], &QueueOptions::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains(part), "{error}");
        }
    }

    #[test]
    fn leases_are_whole_seconds_within_twelve_hours() {
        for (lease, is_fine) in [
            (1_000, true),
            (43_200_000, true),
            (500, false),
            (1_500, false),
            (43_201_000, false),
        ] {
            let checked = check_lease(Some(Duration::from_millis(lease)));
            assert_eq!(checked.is_ok(), is_fine, "{lease} ms");
        }
    }
}
