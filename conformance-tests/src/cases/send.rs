//! What is accepted, and what comes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use towpath_core::{Bytes, ErrorKind, Message, portable};

use crate::{
    Case, CaseResult, Context, TestQueue,
    context::{numbered, text},
    ensure, ensure_eq,
};

pub(super) const CASES: &[Case] = &[
    case!(
        Send,
        a_message_comes_out_as_it_went_in,
        [],
        "Body, attributes, id and idempotency key are received as they were sent."
    ),
    case!(
        Send,
        text_comes_out_byte_for_byte,
        [],
        "Text of any language, with markup, quotes and line ends, is not changed."
    ),
    case!(
        Send,
        emoji_come_out_byte_for_byte,
        [],
        "Characters outside of the basic plane are not changed, in bodies and attributes."
    ),
    case!(
        Send,
        binary_comes_out_byte_for_byte,
        [],
        "Bodies that are not text, or look like an encoding of one, are not changed."
    ),
    case!(
        Send,
        a_body_of_the_largest_portable_size_is_carried,
        [],
        "A body of 720 KiB, or of what the queue carries, comes out byte for byte."
    ),
    case!(
        Send,
        a_body_that_is_too_large_is_refused_alone,
        [],
        "TooLarge is the fate of the one message; its neighbours in the batch are sent."
    ),
    case!(
        Send,
        attributes_come_out_as_they_went_in,
        [],
        "Eight attributes with long names and odd values are received as sent, and no others."
    ),
    case!(
        Send,
        results_stand_in_the_order_of_the_messages,
        [],
        "The id at place i of a batch's results is the id of message i."
    ),
    case!(
        Send,
        every_message_has_an_id_of_its_own,
        [],
        "No two accepted messages have the same id."
    ),
    case!(
        Send,
        what_was_accepted_arrives,
        [],
        "Each message whose send returned Ok is delivered, once, from a batch of any size."
    ),
    case!(
        Send,
        sends_at_the_same_time_all_arrive,
        [],
        "Many producers may send at once; each accepted message is delivered."
    ),
    case!(
        Send,
        the_time_of_sending_is_right_where_it_is_told,
        [],
        "sent_at is when the queue accepted the message."
    ),
    case!(
        Send,
        every_attempt_is_the_same_message,
        [],
        "Body, attributes and idempotency key are the same in each attempt."
    ),
    case!(
        Send,
        a_message_outlives_its_producer,
        [],
        "What was accepted is there for a consumer that is opened later and elsewhere."
    ),
    case!(
        Send,
        the_encoded_length_covers_body_and_attributes,
        [],
        "A driver counts at least the bytes of body, attribute names and attribute values."
    ),
];

async fn a_message_comes_out_as_it_went_in(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let message = Message::new(r#"{"order": 17}"#)
        .with_attribute("content-type", "application/json")
        .with_attribute("tenant", "acme");
    let id = producer.send(message.clone()).await?;
    let delivery = cx.receive(&consumer).await?;
    let received = &delivery.envelope().message;
    ensure_eq!(received.body(), message.body(), "the body");
    ensure_eq!(received.attributes(), message.attributes(), "attributes");
    ensure_eq!(
        received.idempotency_key(),
        message.idempotency_key(),
        "the idempotency key"
    );
    ensure_eq!(received.failure(), None, "the failure record");
    ensure_eq!(delivery.envelope().id, id, "the id");
    delivery.ack().await?;
    Ok(())
}

/// Sends all in one batch, and compares what comes out, in whatever order.
async fn round_trip(cx: &Context, queue: &TestQueue, messages: Vec<Message>) -> CaseResult {
    let (producer, consumer) = queue.halves().await?;
    for result in producer.send_batch(&messages).await {
        result?;
    }
    let deliveries = cx.receive_many(&consumer, messages.len()).await?;
    for (i, message) in messages.iter().enumerate() {
        let received = deliveries
            .iter()
            .map(|delivery| &delivery.envelope().message)
            .find(|received| received.idempotency_key() == message.idempotency_key());
        let Some(received) = received else {
            return Err(crate::CaseError::failed(format!(
                "message {i} of {} did not come, or came with another idempotency key",
                messages.len()
            )));
        };
        // Not shown: it may be long.
        ensure!(
            received.body() == message.body(),
            "message {i} was sent with {} bytes and came out with {} others",
            message.body().len(),
            received.body().len()
        );
        ensure_eq!(
            received.attributes(),
            message.attributes(),
            "attributes of message {i}"
        );
    }
    for result in consumer.ack_batch(deliveries).await {
        result?;
    }
    Ok(())
}

async fn text_comes_out_byte_for_byte(cx: Context) -> CaseResult {
    let messages = [
        "plain",
        " spaces around ",
        "tab\t, line\n, return\r\n, end\n",
        "<order id=\"1\">&amp;</order> 'quoted' \\ %41 +",
        "zażółć gęślą jaźń, 東京, שלום, e\u{301}",
        "\u{feff}with a byte order mark",
        "{\"towpath\": \"not ours\"}",
    ];
    let messages = messages.into_iter().map(Message::new).collect();
    round_trip(&cx, &cx.queue().await?, messages).await
}

async fn emoji_come_out_byte_for_byte(cx: Context) -> CaseResult {
    let messages = ["\u{1f6a2}", "towed by \u{1f434}, \u{20000}", "\u{10fffd}"]
        .map(|text| Message::new(text).with_attribute("emoji", text));
    round_trip(&cx, &cx.queue().await?, messages.to_vec()).await
}

async fn binary_comes_out_byte_for_byte(cx: Context) -> CaseResult {
    let all: Vec<u8> = (0..=255).collect();
    let bodies: [&[u8]; 7] = [
        &all,
        &[0],
        &[0xff, 0xfe],
        "valid \u{1} but not XML".as_bytes(),
        "\u{ffff}".as_bytes(),
        // Not binary, but what binary bodies look like on some wires.
        b"AAECAw==",
        b"gzip\x1f\x8b\x08\x00",
    ];
    let messages = bodies
        .into_iter()
        .map(|body| Message::new(Bytes::copy_from_slice(body)))
        .collect();
    round_trip(&cx, &cx.queue().await?, messages).await
}

async fn a_body_of_the_largest_portable_size_is_carried(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let driver = queue.driver_producer().await?;
    let most = driver.capabilities().limits.message_bytes;
    let binary: Vec<u8> = (0..portable::BODY_BYTES)
        .map(|i| (i * 31 % 251) as u8)
        .collect();
    let mut message = Message::new(binary);
    if driver.encoded_len(&message) > most {
        let text: Vec<u8> = (0..most.min(portable::BODY_BYTES))
            .map(|i| b'a' + (i % 26) as u8)
            .collect();
        message = message.with_body(text);
    }
    driver.close().await?;
    round_trip(&cx, &queue, vec![message]).await
}

async fn a_body_that_is_too_large_is_refused_alone(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let too_large = Message::new(vec![b'x'; portable::BODY_BYTES + 1]);
    let batch = [Message::new("before"), too_large, Message::new("after")];
    let results = producer.send_batch(&batch).await;
    ensure_eq!(results.len(), 3, "the number of results");
    let kinds: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().err().map(|error| error.kind()))
        .collect();
    ensure_eq!(
        kinds,
        [None, Some(ErrorKind::TooLarge), None],
        "the kinds of the errors"
    );
    let deliveries = cx.receive_many(&consumer, 2).await?;
    let bodies: BTreeSet<_> = deliveries.iter().map(text).collect();
    ensure_eq!(
        bodies,
        BTreeSet::from(["after".to_owned(), "before".to_owned()]),
        "what was sent"
    );
    let why = "only two messages were accepted";
    cx.nothing(&consumer, cx.slack(), why).await
}

async fn attributes_come_out_as_they_went_in(cx: Context) -> CaseResult {
    let message = Message::new("x")
        .with_attribute("plain", "value")
        .with_attribute("Case", "upper")
        .with_attribute("case", "lower")
        .with_attribute("dots.and-dashes_0.9", " spaces around ")
        .with_attribute("odd", "<a href=\"x\">&'\\ zażółć\t\n")
        .with_attribute("n".repeat(portable::ATTRIBUTE_NAME_BYTES), "1")
        .with_attribute("long", "v".repeat(portable::ATTRIBUTE_VALUE_BYTES))
        .with_attribute("json", "{\"a\": [1, null]}");
    ensure_eq!(
        message.attributes().len(),
        portable::ATTRIBUTES,
        "the number of attributes that work everywhere"
    );
    let bare = Message::new("without attributes");
    round_trip(&cx, &cx.queue().await?, vec![message, bare]).await
}

async fn results_stand_in_the_order_of_the_messages(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let messages = numbered("m", 12);
    let mut ids = Vec::new();
    for result in producer.send_batch(&messages).await {
        ids.push(result?.to_string());
    }
    let deliveries = cx.receive_many(&consumer, messages.len()).await?;
    let found: BTreeMap<String, String> = deliveries
        .iter()
        .map(|delivery| (text(delivery), delivery.envelope().id.to_string()))
        .collect();
    for (i, id) in ids.iter().enumerate() {
        ensure_eq!(
            found.get(&format!("m-{i}")),
            Some(id),
            "the id of the delivered message {i}"
        );
    }
    Ok(())
}

async fn every_message_has_an_id_of_its_own(cx: Context) -> CaseResult {
    let producer = cx.queue().await?.producer().await?;
    let mut ids = BTreeSet::new();
    for message in numbered("single", 3) {
        ids.insert(producer.send(message).await?.to_string());
    }
    for result in producer.send_batch(&numbered("batch", 9)).await {
        ids.insert(result?.to_string());
    }
    ensure_eq!(ids.len(), 12, "the number of ids of 12 messages");
    ensure!(!ids.contains(""), "a message has an empty id");
    Ok(())
}

async fn what_was_accepted_arrives(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let limit = producer.capabilities().limits.send_batch;
    let count = limit.saturating_mul(2).saturating_add(3).min(33);
    let messages = numbered("m", count);
    for result in producer.send_batch(&messages).await {
        result?;
    }
    let mut bodies = BTreeSet::new();
    for _ in 0..count {
        let delivery = cx.receive(&consumer).await?;
        ensure!(
            bodies.insert(text(&delivery)),
            "{:?} was delivered a second time, though it was acked",
            text(&delivery)
        );
        delivery.ack().await?;
    }
    let why = "all messages were delivered and acked";
    cx.nothing(&consumer, cx.slack(), why).await
}

async fn sends_at_the_same_time_all_arrive(cx: Context) -> CaseResult {
    const PRODUCERS: usize = 3;
    const EACH: usize = 8;
    let queue = cx.queue().await?;
    let consumer = queue.consumer().await?;
    let mut sending = Vec::new();
    for i in 0..PRODUCERS {
        let producer = queue.producer().await?;
        for message in numbered(&format!("p{i}"), EACH) {
            let producer = producer.clone();
            sending.push(async move { producer.send(message).await });
        }
    }
    for sent in futures::future::join_all(sending).await {
        sent?;
    }
    let deliveries = cx.receive_many(&consumer, PRODUCERS * EACH).await?;
    let bodies: BTreeSet<_> = deliveries.iter().map(text).collect();
    ensure_eq!(bodies.len(), PRODUCERS * EACH, "the number of messages");
    Ok(())
}

async fn the_time_of_sending_is_right_where_it_is_told(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    // Virtual time runs ahead of the system's clock.
    let (wall, begun) = (SystemTime::now(), Instant::now());
    tokio::time::sleep(cx.delay()).await;
    producer.send("x").await?;
    let sent = begun.elapsed();
    let delivery = cx.receive(&consumer).await?;
    if let Some(sent_at) = delivery.envelope().sent_at {
        // Brokers have clocks of their own, some of them with seconds only.
        let tolerance = cx.slack() + Duration::from_secs(2);
        let right = wall + sent;
        let off = sent_at
            .duration_since(right)
            .unwrap_or_else(|error| error.duration());
        ensure!(
            off <= tolerance,
            "sent_at is off by {off:?}, and {tolerance:?} are fine"
        );
    }
    Ok(())
}

async fn every_attempt_is_the_same_message(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let message = Message::new(vec![0, 159, 146, 150]).with_attribute("a", "1");
    producer.send(message.clone()).await?;
    for attempt in 1..=3 {
        let delivery = cx.receive(&consumer).await?;
        let received = &delivery.envelope().message;
        ensure!(
            received.body() == message.body(),
            "the body of attempt {attempt} is another"
        );
        ensure_eq!(
            received.attributes(),
            message.attributes(),
            "attributes of attempt {attempt}"
        );
        ensure_eq!(
            received.idempotency_key(),
            message.idempotency_key(),
            "the idempotency key of attempt {attempt}"
        );
        delivery.nack(Duration::ZERO).await?;
    }
    Ok(())
}

async fn a_message_outlives_its_producer(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let producer = queue.producer().await?;
    producer.send("x").await?;
    producer.close().await?;
    drop(producer);
    let consumer = cx.reopen(&queue)?.consumer().await?;
    let delivery = cx.receive(&consumer).await?;
    ensure_eq!(text(&delivery), "x", "the body");
    delivery.ack().await?;
    Ok(())
}

async fn the_encoded_length_covers_body_and_attributes(cx: Context) -> CaseResult {
    let driver = cx.queue().await?.driver_producer().await?;
    let bare = Message::new("x".repeat(1_000));
    let len = driver.encoded_len(&bare);
    ensure!(len >= 1_000, "{len} bytes are counted for a body of 1000");
    let full = bare
        .with_attribute("name", "v".repeat(100))
        .with_attribute("second", "w".repeat(50));
    let with = driver.encoded_len(&full);
    let least = len + "name".len() + 100 + "second".len() + 50;
    ensure!(
        with >= least,
        "{with} bytes are counted for what has at least {least}"
    );
    let binary = driver.encoded_len(&Message::new(vec![0xff; 900]));
    ensure!(
        binary >= 900,
        "{binary} bytes are counted for a binary body of 900"
    );
    driver.close().await?;
    Ok(())
}
