//! A loop on the SDK itself: full batches for everything, several requests at once.

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry};

use crate::{
    Error, client,
    load::{BATCH, Figures, Load, measure},
};

pub(crate) async fn run(load: Load) -> Result<Figures, Error> {
    let client = client(&load.endpoint);
    measure(
        &load,
        |tasks| {
            for _ in 0..load.tasks {
                let (client, load) = (client.clone(), load.clone());
                tasks.spawn(async move {
                    let body = load.body();
                    for _ in 0..load.batches() {
                        let mut request = client
                            .send_message_batch()
                            .queue_url(load.queue_url.clone());
                        for id in 0..BATCH {
                            let entry = SendMessageBatchRequestEntry::builder()
                                .id(id.to_string())
                                .message_body(body.clone());
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
                        let received = client
                            .receive_message()
                            .queue_url(load.queue_url.clone())
                            .max_number_of_messages(10)
                            .wait_time_seconds(20);
                        let received = Box::pin(received.send()).await?;
                        let messages = received.messages.unwrap_or_default();
                        if messages.is_empty() {
                            continue;
                        }
                        let count = messages.len();
                        let mut request = client
                            .delete_message_batch()
                            .queue_url(load.queue_url.clone());
                        for (id, message) in messages.into_iter().enumerate() {
                            check(&message.body.unwrap_or_default(), &load)?;
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

/// That a message is one of ours.
fn check(body: &str, load: &Load) -> Result<(), Error> {
    if body.len() == load.body {
        return Ok(());
    }
    Err("a body is not what was sent".into())
}
