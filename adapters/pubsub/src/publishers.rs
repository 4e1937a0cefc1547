//! The client library's publishers for one topic.
//!
//! A publisher keeps a task for each ordering key that it ever saw, and stops a key after a failure
//! until it is told to resume. So publishers of keys are replaced after a while, and a key stays
//! with the publisher that has messages of it under way, because only one publisher can keep their
//! order.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use google_cloud_pubsub::client::{BasePublisher, Publisher};

use crate::options::Sending;

/// How many keys a publisher is given before another one takes over.
const KEYS: usize = 1_024;

/// The publishers of one topic.
pub(crate) struct Publishers {
    base: BasePublisher,
    topic: String,
    sending: Sending,
    unordered: Publisher,
    ordered: Arc<Mutex<Ordered>>,
}

#[derive(Default)]
struct Ordered {
    current: Option<Publisher>,
    /// How many keys the current publisher was given.
    given: usize,
    /// The keys with messages under way.
    busy: HashMap<Arc<str>, Busy>,
}

struct Busy {
    publisher: Publisher,
    messages: usize,
}

/// The publisher for one message. While it lives, its key stays with this publisher.
pub(crate) struct Lane {
    pub(crate) publisher: Publisher,
    key: Option<(Arc<str>, Arc<Mutex<Ordered>>)>,
}

impl Publishers {
    /// Publishers for the topic with this full name.
    pub(crate) fn new(base: BasePublisher, topic: String, sending: Sending) -> Self {
        let unordered = build(&base, &topic, &sending);
        Self {
            base,
            topic,
            sending,
            unordered,
            ordered: Arc::default(),
        }
    }

    /// The publisher for a message with this ordering key.
    pub(crate) fn lane(&self, key: Option<&str>) -> Lane {
        let Some(key) = key else {
            return Lane {
                publisher: self.unordered.clone(),
                key: None,
            };
        };
        let mut ordered = lock(&self.ordered);
        let key: Arc<str> = match ordered.busy.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => key.into(),
        };
        let publisher = match ordered.busy.get_mut(&key) {
            Some(busy) => {
                busy.messages += 1;
                busy.publisher.clone()
            }
            None => {
                if ordered.given >= KEYS {
                    ordered.current = None;
                    ordered.given = 0;
                }
                ordered.given += 1;
                let publisher = ordered
                    .current
                    .get_or_insert_with(|| build(&self.base, &self.topic, &self.sending))
                    .clone();
                let busy = Busy {
                    publisher: publisher.clone(),
                    messages: 1,
                };
                ordered.busy.insert(key.clone(), busy);
                publisher
            }
        };
        Lane {
            publisher,
            key: Some((key, self.ordered.clone())),
        }
    }

    /// A publisher that sends each message in a request of its own.
    pub(crate) fn one_by_one(&self) -> Publisher {
        let sending = Sending {
            batch_messages: 1,
            linger: Duration::ZERO,
            ..self.sending.clone()
        };
        build(&self.base, &self.topic, &sending)
    }
}

fn build(base: &BasePublisher, topic: &str, sending: &Sending) -> Publisher {
    base.publisher(topic)
        .set_message_count_threshold(sending.batch_messages)
        .set_byte_threshold(sending.batch_bytes)
        .set_delay_threshold(sending.linger)
        .build()
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some((key, ordered)) = &self.key else {
            return;
        };
        let mut ordered = lock(ordered);
        if let Some(busy) = ordered.busy.get_mut(key) {
            busy.messages -= 1;
            if busy.messages == 0 {
                ordered.busy.remove(key);
            }
        }
    }
}

fn lock(ordered: &Mutex<Ordered>) -> MutexGuard<'_, Ordered> {
    ordered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Publishers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publishers")
            .field("topic", &self.topic)
            .field("sending", &self.sending)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use google_cloud_auth::credentials::anonymous;
    use towpath_core::QueueConfig;

    use super::*;

    async fn publishers() -> Publishers {
        let base = BasePublisher::builder()
            .with_endpoint("http://127.0.0.1:9")
            .with_credentials(anonymous::Builder::new().build())
            .build()
            .await
            .unwrap();
        let config = QueueConfig::parse("pubsub://p/orders").unwrap();
        let sending = Sending::of(&config).unwrap();
        Publishers::new(base, "projects/p/topics/orders".to_owned(), sending)
    }

    #[tokio::test]
    async fn publishers_of_keys_are_replaced_and_busy_keys_stay() {
        let publishers = publishers().await;
        let busy = publishers.lane(Some("busy"));
        for i in 0..KEYS * 3 {
            drop(publishers.lane(Some(&format!("key-{i}"))));
        }
        let again = publishers.lane(Some("busy"));
        {
            let ordered = lock(&publishers.ordered);
            assert!(ordered.given <= KEYS);
            assert_eq!(ordered.busy.len(), 1);
            assert_eq!(ordered.busy["busy"].messages, 2);
        }
        drop((busy, again));
        assert!(lock(&publishers.ordered).busy.is_empty());
    }
}
