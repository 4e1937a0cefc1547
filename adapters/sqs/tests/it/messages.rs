//! Messages between towpath and programs that know nothing of it.

use std::time::Duration;

use aws_sdk_sqs::{
    primitives::Blob,
    types::{
        MessageAttributeValue, MessageSystemAttributeNameForSends, MessageSystemAttributeValue,
        QueueAttributeName,
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use towpath_core::{ErrorKind, FailureClass, FailureRecord, Message, QueueSpec};

use crate::{
    Outcome, ServerTest,
    server::{Server, TestQueue, receive},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    messages_of_other_programs_are_read_in_full,
    text_bodies_travel_as_they_are,
    other_bodies_travel_as_base64_that_any_program_can_read,
    the_largest_message_has_room_for_a_failure_record,
    one_refused_message_does_not_keep_the_others_from_being_sent,
];

fn attribute(kind: &str) -> aws_sdk_sqs::types::builders::MessageAttributeValueBuilder {
    MessageAttributeValue::builder().data_type(kind)
}

async fn messages_of_other_programs_are_read_in_full(server: Server) -> Outcome {
    // fauxqs does not hand out the trace header.
    // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
    let has_trace_header = server.name != "fauxqs";
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let client = queue.server.foreign();
            let mut request = client
                .send_message()
                .queue_url(&queue.url)
                .message_body("{\"plain\": true}")
                .message_attributes("n", attribute("Number").string_value("7.50").build()?)
                .message_attributes(
                    "b",
                    attribute("Binary")
                        .binary_value(Blob::new([0, 255]))
                        .build()?,
                )
                .message_attributes("s", attribute("String.id").string_value("é").build()?)
                .message_system_attributes(
                    MessageSystemAttributeNameForSends::AwsTraceHeader,
                    MessageSystemAttributeValue::builder()
                        .data_type("String")
                        .string_value(
                            "Root=1-5759e988-bd862e3fe1be46a994272793;\
                             Parent=53995c3f42cd8ad8;Sampled=1",
                        )
                        .build()?,
                );
            // SQS allows ten.
            for i in 0..7 {
                let value = attribute("String").string_value("v").build()?;
                request = request.message_attributes(format!("a{i}"), value);
            }
            request.send().await?;

            let consumer = queue.open()?.consumer().await?;
            let delivery = consumer.receive().await?;
            assert_eq!(delivery.body(), "{\"plain\": true}");
            let attributes = delivery.attributes();
            assert_eq!(attributes.get("n"), Some("7.50"));
            assert_eq!(attributes.get("b"), Some("AP8="));
            assert_eq!(attributes.get("s"), Some("é"));
            assert_eq!(attributes.get("a6"), Some("v"));
            let trace = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
            assert_eq!(
                attributes.get("traceparent"),
                has_trace_header.then_some(trace)
            );
            assert_eq!(attributes.len(), 10 + usize::from(has_trace_header));
            assert_eq!(delivery.attempt(), Some(1));
            assert!(delivery.envelope().sent_at.is_some());
            delivery.ack().await?;
            Ok(())
        })
        .await
}

async fn text_bodies_travel_as_they_are(server: Server) -> Outcome {
    // fauxqs refuses what is beyond #xFFFD, which AWS carries.
    // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    let beyond = if server.name == "fauxqs" {
        ""
    } else {
        "\u{1f600}"
    };
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let body = format!("{{\"text\": \"é {beyond} <&> \t\r\n\"}}");
            let message = Message::new(body.clone()).with_attribute("kind", "greeting");
            queue.producer().await?.send(&[message]).await.remove(0)?;
            let client = queue.server.foreign();
            let received = client
                .receive_message()
                .queue_url(&queue.url)
                .message_attribute_names("All")
                .wait_time_seconds(2)
                .send()
                .await?;
            let message = &received.messages()[0];
            assert_eq!(message.body(), Some(body.as_str()));
            let attributes = message.message_attributes().expect("attributes");
            assert_eq!(attributes["kind"].string_value(), Some("greeting"));
            let reserved = attributes["towpath"].string_value().expect("text");
            assert!(!reserved.contains("base64"), "{reserved}");
            Ok(())
        })
        .await
}

async fn other_bodies_travel_as_base64_that_any_program_can_read(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let bodies = [
                &b"\x00\xff\xfe"[..],
                b"text with \x0b",
                "\u{fffe}".as_bytes(),
            ];
            let messages: Vec<_> = bodies.iter().map(|body| Message::new(*body)).collect();
            for result in queue.producer().await?.send(&messages).await {
                result?;
            }
            let consumer = queue.consumer().await?;
            let received = receive(&*consumer, 3).await?;
            assert_eq!(received.len(), 3);
            for one in &received {
                assert!(bodies.contains(&&one.envelope.message.body()[..]));
                consumer
                    .nack(std::slice::from_ref(&one.receipt), Duration::ZERO)
                    .await
                    .remove(0)?;
            }
            let client = queue.server.foreign();
            let received = client
                .receive_message()
                .queue_url(&queue.url)
                .message_attribute_names("All")
                .max_number_of_messages(10)
                .wait_time_seconds(2)
                .send()
                .await?;
            for message in received.messages() {
                let attributes = message.message_attributes().expect("attributes");
                let reserved = attributes["towpath"].string_value().expect("text");
                let reserved: serde_json::Value = serde_json::from_str(reserved)?;
                assert_eq!(reserved["body"], "base64");
                let body = BASE64_STANDARD.decode(message.body().expect("a body"))?;
                assert!(bodies.contains(&&body[..]));
            }
            Ok(())
        })
        .await
}

/// Sets the largest message that a queue takes, where the server knows that setting; returns it.
///
/// ElasticMQ keeps to its own, which is AWS's former one.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>
async fn limit_size(queue: &TestQueue) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    if queue.server.name == "elasticmq" {
        return Ok(262_144);
    }
    queue
        .set(QueueAttributeName::MaximumMessageSize, "8192")
        .await?;
    Ok(8_192)
}

async fn the_largest_message_has_room_for_a_failure_record(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let largest = limit_size(&queue).await?;
            let producer = queue.producer().await?;
            let limit = producer.capabilities().limits.message_bytes;
            assert_eq!(limit, largest - ("towpath".len() + "String".len() + 1_024));

            let attribute = ("name", "value");
            let room = limit - attribute.0.len() - "String".len() - attribute.1.len();
            // "é" takes two bytes.
            let body = format!("{}{}", "é".repeat(room / 2), "x".repeat(room % 2));
            let reason = "because ".repeat(1_000);
            let failure = FailureRecord::new(FailureClass::Permanent, reason, "orders");
            let largest = Message::new(body)
                .with_attribute(attribute.0, attribute.1)
                .with_failure(Some(failure));
            assert_eq!(producer.encoded_len(&largest), limit);
            producer
                .send(std::slice::from_ref(&largest))
                .await
                .remove(0)?;

            let consumer = queue.consumer().await?;
            let received = receive(&*consumer, 1).await?;
            let message = &received[0].envelope.message;
            assert_eq!(message.body(), largest.body());
            let class = message.failure().map(|failure| &failure.class);
            assert_eq!(class, Some(&FailureClass::Permanent));
            Ok(())
        })
        .await
}

async fn one_refused_message_does_not_keep_the_others_from_being_sent(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            limit_size(&queue).await?;
            let mut batch: Vec<_> = (0..10)
                .map(|i| Message::new(format!("message {i}")))
                .collect();
            batch[3] = Message::new("x").with_attribute("not allowed", "v");
            // Too large for any queue, and so for a whole request: it is halved until the others
            // are through.
            batch[6] = Message::new("x".repeat(1_048_577));
            let results = queue.producer().await?.send(&batch).await;
            for (i, result) in results.into_iter().enumerate() {
                let kind = result.map(drop).map_err(|error| error.kind());
                match i {
                    3 => assert_eq!(kind, Err(ErrorKind::InvalidMessage)),
                    6 => assert_eq!(kind, Err(ErrorKind::TooLarge)),
                    _ => assert_eq!(kind, Ok(()), "{i}"),
                }
            }
            let consumer = queue.consumer().await?;
            assert_eq!(receive(&*consumer, 8).await?.len(), 8);
            Ok(())
        })
        .await
}
