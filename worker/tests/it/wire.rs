//! The form of messages on the wire: files that any language can read, and Python that does.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use towpath_core::{
    Bytes, FailureClass, FailureRecord, Message, MessageId,
    wire::{
        BodyEncoding, Delayed, RESERVED_ATTRIBUTE, RESERVED_BYTES, body_to_text, delayed_value,
        reserved_value, restore, restore_delayed,
    },
};
use uuid::Uuid;

/// A message, and what it looks like in each cloud.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Fixture {
    about: String,
    message: Plain,
    sqs: Encoded,
    pubsub: Encoded,
}

/// A message without any encoding but that of JSON.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Plain {
    key: Uuid,
    body_base64: String,
    attributes: std::collections::BTreeMap<String, String>,
    failure: Option<FailureRecord>,
    /// What Pub/Sub's form has in addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delayed: Option<Delayed>,
}

/// The body and the attributes as the cloud carries them. Pub/Sub's data is bytes, here in base64;
/// the body of SQS is text.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Encoded {
    body: String,
    attributes: std::collections::BTreeMap<String, String>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/wire")
}

fn key(n: u128) -> Uuid {
    Uuid::from_u128(0x8a0c_2c5e_6c7b_4d43_8a63_0d2b_8f0f_6a50 + n)
}

fn record(class: FailureClass, reason: &str) -> FailureRecord {
    let mut record = FailureRecord::new(class, reason, "orders");
    record.attempts = 5;
    record.first_sent_ms = Some(1_767_225_600_000);
    record.failed_ms = 1_767_225_912_345;
    record.message_id = "5fea7756-0ea4-451a-a703-a558b933e274".into();
    record
}

/// What the file of this name waits for.
fn delayed(name: &str) -> Option<Delayed> {
    let time = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    let queue = "projects/my-project/subscriptions/orders";
    (name == "delayed").then(|| {
        Delayed::new(queue, time(1_767_269_112_345))
            .with_attempts(3)
            .with_first_sent(Some(time(1_767_225_600_000)))
    })
}

fn messages() -> Vec<(&'static str, &'static str, Message)> {
    let text = Message::new(r#"{"order": 17}"#)
        .with_attribute("content-type", "application/json")
        .with_idempotency_key(key(0));
    let mut redriven = record(FailureClass::AttemptsExhausted, "the CRM answered 503");
    redriven.redrives = 2;
    redriven.ordering_key = Some("customer-4".into());
    let unicode = "der Kühlturm brennt \u{1f525}: ".repeat(60);
    vec![
        ("text", "A text body travels as it is.", text.clone()),
        (
            "binary",
            "A body that is no text is base64 on SQS, marked in the reserved attribute.",
            Message::new(vec![0u8, 159, 146, 150, 255]).with_idempotency_key(key(1)),
        ),
        (
            "illegal-text",
            "Text with a character that XML does not carry is base64 on SQS, too.",
            Message::new("bell \u{7}").with_idempotency_key(key(2)),
        ),
        (
            "dead-letter",
            "A message of a dead-letter queue, with why, where and how often it failed.",
            text.clone()
                .with_idempotency_key(key(3))
                .with_failure(Some(record(FailureClass::Permanent, "no such customer: 4"))),
        ),
        (
            "redriven",
            "A redriven message keeps its record: it was redriven twice, and had an ordering key.",
            text.clone()
                .with_idempotency_key(key(4))
                .with_failure(Some(redriven)),
        ),
        (
            "other-class",
            "A class of failure that a reader does not know is text like any other.",
            text.clone()
                .with_idempotency_key(key(5))
                .with_failure(Some(record(
                    FailureClass::Other("quota".into()),
                    "over quota",
                ))),
        ),
        (
            "delayed",
            "A copy that waits for its time, which only Pub/Sub needs: it was tried three times.",
            text.clone().with_idempotency_key(key(8)),
        ),
        (
            "long-reason",
            "A long reason is cut so that the attribute stays within 1,024 bytes.",
            text.with_idempotency_key(key(6))
                .with_failure(Some(record(FailureClass::TooOld, &unicode))),
        ),
    ]
}

fn fixture(about: &str, message: &Message, delayed: Option<Delayed>) -> Fixture {
    let attributes = |encoding| {
        let own = message.attributes().iter();
        own.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .chain([(
                RESERVED_ATTRIBUTE.to_owned(),
                reserved_value(message, encoding),
            )])
            .collect()
    };
    let (text, encoding) = body_to_text(message.body());
    let sqs = Encoded {
        body: text.into_owned(),
        attributes: attributes(encoding),
    };
    let reserved = &sqs.attributes[RESERVED_ATTRIBUTE];
    // What a reader gets: a reason that was cut stays cut.
    let read = restore(
        Bytes::from(sqs.body.clone()),
        &MessageId::from(1),
        Some(reserved),
    );
    let mut in_pubsub: std::collections::BTreeMap<_, _> = attributes(BodyEncoding::Raw);
    if let Some(delayed) = delayed.clone() {
        let value = delayed_value(message, BodyEncoding::Raw, delayed);
        in_pubsub.insert(RESERVED_ATTRIBUTE.to_owned(), value);
    }
    Fixture {
        about: about.to_owned(),
        message: Plain {
            key: message.idempotency_key(),
            body_base64: BASE64_STANDARD.encode(message.body()),
            attributes: message
                .attributes()
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            failure: read.failure().cloned(),
            delayed,
        },
        sqs,
        pubsub: Encoded {
            body: BASE64_STANDARD.encode(message.body()),
            attributes: in_pubsub,
        },
    }
}

/// Fails when what is written on the wire changes: messages that wait in queues, and readers in
/// other languages, are of the old form. To add a file, copy the text that the failure shows.
#[test]
fn the_files_are_what_is_written() {
    for (name, about, message) in messages() {
        let path = folder().join(format!("{name}.json"));
        let expected =
            serde_json::to_string_pretty(&fixture(about, &message, delayed(name))).unwrap() + "\n";
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "{} differs from:\n{expected}",
            path.display()
        );
    }
}

#[test]
fn the_files_are_read_as_the_messages_that_they_stand_for() {
    let mut files = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let fixture: Fixture = serde_json::from_str(&text).unwrap();
        let pubsub = BASE64_STANDARD.decode(&fixture.pubsub.body).unwrap();
        for (body, encoded, delayed) in [
            (Bytes::from(fixture.sqs.body.clone()), &fixture.sqs, &None),
            (
                Bytes::from(pubsub),
                &fixture.pubsub,
                &fixture.message.delayed,
            ),
        ] {
            let reserved = &encoded.attributes[RESERVED_ATTRIBUTE];
            assert!(reserved.len() <= RESERVED_BYTES);
            let (message, found) = restore_delayed(body, &MessageId::from(1), Some(reserved));
            assert_eq!(message.idempotency_key(), fixture.message.key);
            assert_eq!(&found, delayed, "{}", path.display());
            let expected = BASE64_STANDARD
                .decode(&fixture.message.body_base64)
                .unwrap();
            assert_eq!(&message.body()[..], &expected[..], "{}", path.display());
            assert_eq!(message.failure(), fixture.message.failure.as_ref());
        }
    }
    assert_eq!(files, messages().len(), "a file is left over");
}

/// Python reads the files by their description alone, and writes a message that is read here.
#[test]
fn python_reads_and_writes_the_same_form() {
    let script = folder().join("check.py");
    let output = Command::new("python3")
        .arg(&script)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "python3 cannot be started ({error}); this test needs it: apt-get install python3"
            )
        });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{errors}", script.display());
    let written: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(written["checked"], messages().len());
    let text = |name: &str| written["message"][name].as_str().unwrap().to_owned();
    let message = restore(
        Bytes::from(text("body")),
        &MessageId::from(1),
        Some(&text("towpath")),
    );
    assert_eq!(message.idempotency_key(), key(7));
    assert_eq!(&message.body()[..], b"\x00from python");
    let failure = message.failure().unwrap();
    assert_eq!(failure.class, FailureClass::Other("quota".into()));
    assert_eq!((&*failure.reason, failure.attempts), ("h\u{e4}ngt", 3));
    assert_eq!(failure.queue, "orders");
}
