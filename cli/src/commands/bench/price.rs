//! What the clouds ask for it.
//!
//! List prices without volume discounts, free tiers, taxes and traffic between regions. They are
//! here and not looked up, so that the same run gives the same figure everywhere.

use serde::Serialize;
use towpath::QueueConfig;

use super::counted::Figures;

/// A million requests to a standard queue of SQS, in US dollars, in us-east-1, up to 100 thousand
/// million a month. A request is billed once for every 64 KiB of it.
/// <https://aws.amazon.com/sqs/pricing/>
const SQS_STANDARD: f64 = 0.40;
/// The same to a FIFO queue.
const SQS_FIFO: f64 = 0.50;
/// A TiB that is published to Pub/Sub or delivered by it, in US dollars. A request counts for 1,000
/// bytes at least; acks are free.
/// <https://cloud.google.com/pubsub/pricing>
const PUBSUB_TIB: f64 = 40.0;
/// When these prices were last compared with what is written about them.
const AS_OF: &str = "2026-06";

const TIB: f64 = (1_u64 << 40) as f64;

/// How the requests are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Known {
    /// Counted one by one. What the cloud's client repeats by itself is not in it.
    Counted,
    /// The cloud's client batches by itself, so these are estimated from its settings.
    Estimated,
}

/// The requests of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Requests {
    pub(super) known: Known,
    pub(super) send: u64,
    /// Empty receives too. Absent where messages come on a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) receive: Option<u64>,
    /// Acks and nacks.
    pub(super) settle: u64,
    /// Extensions of leases. Absent where the cloud's client makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extend: Option<u64>,
    /// How many requests are billed. Absent where bytes are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) billed: Option<u64>,
    /// How many bytes are billed. Absent where requests are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) billed_bytes: Option<u64>,
}

/// What it costs, estimated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Price {
    pub(super) usd_per_million_messages: f64,
    pub(super) as_of: &'static str,
    pub(super) source: &'static str,
}

/// The requests and the price of a run of `messages`, where the queue is in a cloud that asks for
/// one.
pub(super) fn of(
    queue: &QueueConfig,
    figures: Figures,
    messages: usize,
) -> Option<(Requests, Price)> {
    let (requests, usd, source) = match queue.scheme() {
        "sqs" => {
            let is_fifo = queue.target().ends_with(".fifo");
            let per_million = if is_fifo { SQS_FIFO } else { SQS_STANDARD };
            let requests = Requests {
                known: Known::Counted,
                send: figures.send,
                receive: Some(figures.receive),
                settle: figures.settle,
                extend: Some(figures.extend),
                billed: Some(figures.chunks),
                billed_bytes: None,
            };
            let usd = figures.chunks as f64 * per_million / 1e6;
            (requests, usd, "https://aws.amazon.com/sqs/pricing/")
        }
        "pubsub" => {
            let requests = Requests {
                known: Known::Estimated,
                send: figures.send,
                receive: None,
                settle: figures.settle,
                extend: None,
                billed: None,
                billed_bytes: Some(figures.bytes),
            };
            let usd = figures.bytes as f64 * PUBSUB_TIB / TIB;
            (requests, usd, "https://cloud.google.com/pubsub/pricing")
        }
        _ => return None,
    };
    let price = Price {
        usd_per_million_messages: usd * 1e6 / messages.max(1) as f64,
        as_of: AS_OF,
        source,
    };
    Some((requests, price))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(url: &str, figures: Figures) -> f64 {
        let queue = QueueConfig::parse(url).unwrap();
        let (_, price) = of(&queue, figures, 1_000).unwrap();
        (price.usd_per_million_messages * 1e4).round() / 1e4
    }

    #[test]
    fn prices_follow_the_clouds_rules() {
        // 1,000 messages in batches of 10: 100 requests each for send, receive and delete.
        let figures = Figures {
            chunks: 300,
            bytes: 2_000_000,
            ..Figures::default()
        };
        assert_eq!(price("sqs://orders", figures), 0.12);
        assert_eq!(price("sqs://orders.fifo", figures), 0.15);
        // 2 GB in all for a million messages of 1,000 bytes, in and out.
        assert_eq!(price("pubsub://p/orders", figures), 0.0728);
        let memory = QueueConfig::parse("memory://orders").unwrap();
        assert_eq!(of(&memory, figures, 1_000), None);
    }
}
