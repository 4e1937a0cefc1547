//! What one would write on google-cloud-pubsub itself: a publisher for all tasks, and one stream
//! whose messages are acked as they come.

use futures::future::join_all;
use google_cloud_pubsub::{
    client::{BasePublisher, Subscriber},
    model::Message,
};

use towpath_benches::{
    Error,
    load::{Figures, Load, measure},
};

use crate::queue::{nobody, subscription, topic};

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A body.
    Body,
    /// A body, and a key in an attribute that tells a retry from another message.
    BodyAndKey,
}

const KEY: &str = "key";

pub(crate) async fn run(load: Load, content: Content) -> Result<Figures, Error> {
    let base = BasePublisher::builder()
        .with_endpoint(&load.endpoint)
        .with_credentials(nobody())
        .build()
        .await?;
    let publisher = base.publisher(topic(&load.queue)).build();
    let subscriber = Subscriber::builder()
        .with_endpoint(&load.endpoint)
        .with_credentials(nobody())
        .build()
        .await?;
    measure(
        &load,
        |tasks| {
            for _ in 0..load.tasks {
                let (publisher, load) = (publisher.clone(), load.clone());
                tasks.spawn(async move {
                    let body = load.body();
                    for _ in 0..load.batches() {
                        let sent: Vec<_> = (0..load.batch)
                            .map(|_| publisher.publish(message(body.clone(), content)))
                            .collect();
                        for published in join_all(sent).await {
                            published?;
                        }
                    }
                    Ok(())
                });
            }
        },
        |tasks, meter| {
            let load = load.clone();
            tasks.spawn(async move {
                let mut stream = subscriber.subscribe(subscription(&load.queue)).build();
                while let Some(received) = stream.next().await {
                    let (message, handler) = received?;
                    let has_key = message.attributes.contains_key(KEY);
                    if message.data.len() != load.body
                        || has_key != (content == Content::BodyAndKey)
                    {
                        return Err(Error::from("a message is not what was sent"));
                    }
                    handler.ack();
                    meter.add(1);
                }
                Err("the stream ended".into())
            });
        },
    )
    .await
}

fn message(body: String, content: Content) -> Message {
    let message = Message::new().set_data(body);
    match content {
        Content::Body => message,
        // A fresh key: 32 hexadecimal digits.
        Content::BodyAndKey => {
            message.set_attributes([(KEY, format!("{:032x}", fastrand::u128(..)))])
        }
    }
}
