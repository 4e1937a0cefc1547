//! A loop on the SDK itself: full batches for everything, several requests at once.

use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue,
    MessageSystemAttributeName as System, SendMessageBatchRequestEntry,
};

use towpath_benches::{
    Error,
    load::{Figures, Load, measure},
};

use crate::client;

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A body.
    Body,
    /// A body, and what retries need: a key in an attribute, and how often and since when it was
    /// delivered.
    BodyAndKey,
}

pub(crate) async fn run(load: Load, content: Content) -> Result<Figures, Error> {
    let client = client(&load.endpoint);
    measure(
        &load,
        |tasks| {
            for _ in 0..load.tasks {
                let (client, load) = (client.clone(), load.clone());
                tasks.spawn(async move {
                    let body = load.body();
                    for _ in 0..load.batches() {
                        let mut request = client.send_message_batch().queue_url(load.queue.clone());
                        for id in 0..load.batch {
                            let mut entry = SendMessageBatchRequestEntry::builder()
                                .id(id.to_string())
                                .message_body(body.clone());
                            if content == Content::BodyAndKey {
                                entry = entry.message_attributes(KEY, key()?);
                            }
                            request = request.entries(entry.build()?);
                        }
                        let sent = Box::pin(request.send()).await?;
                        if !sent.failed.is_empty() {
                            return Err("an entry failed".into());
                        }
                    }
                    Ok(())
                });
            }
        },
        |tasks, meter| {
            for _ in 0..load.tasks {
                let (client, load, meter) = (client.clone(), load.clone(), meter.clone());
                tasks.spawn(async move {
                    loop {
                        let mut received = client
                            .receive_message()
                            .queue_url(load.queue.clone())
                            .max_number_of_messages(10)
                            .wait_time_seconds(20);
                        if content == Content::BodyAndKey {
                            received = received
                                .message_attribute_names("All")
                                .message_system_attribute_names(System::ApproximateReceiveCount)
                                .message_system_attribute_names(System::SentTimestamp);
                        }
                        let received = Box::pin(received.send()).await?;
                        let messages = received.messages.unwrap_or_default();
                        if messages.is_empty() {
                            continue;
                        }
                        let count = messages.len();
                        let mut request =
                            client.delete_message_batch().queue_url(load.queue.clone());
                        for (id, message) in messages.into_iter().enumerate() {
                            check(&message, content, &load)?;
                            let entry = DeleteMessageBatchRequestEntry::builder()
                                .id(id.to_string())
                                .set_receipt_handle(message.receipt_handle);
                            request = request.entries(entry.build()?);
                        }
                        let deleted = Box::pin(request.send()).await?;
                        if !deleted.failed.is_empty() {
                            return Err("an entry failed".into());
                        }
                        meter.add(count);
                    }
                });
            }
        },
    )
    .await
}

const KEY: &str = "key";

/// A fresh key: 32 hexadecimal digits.
fn key() -> Result<MessageAttributeValue, Error> {
    let key = format!("{:032x}", fastrand::u128(..));
    let value = MessageAttributeValue::builder()
        .data_type("String")
        .string_value(key);
    Ok(value.build()?)
}

/// That a message is one of ours.
fn check(message: &Message, content: Content, load: &Load) -> Result<(), Error> {
    let body = message.body.as_deref().unwrap_or_default();
    let key = message.message_attributes().and_then(|all| all.get(KEY));
    let count = message.attributes().and_then(|all| {
        let count = all.get(&System::ApproximateReceiveCount)?;
        count.parse::<u32>().ok()
    });
    let has_key = key.is_some() && count.is_some();
    if body.len() == load.body && has_key == (content == Content::BodyAndKey) {
        return Ok(());
    }
    Err("a message is not what was sent".into())
}
