//! From the records of an event to envelopes.

use aws_lambda_events::sqs::{SqsMessage, SqsMessageAttribute};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use towpath_core::{Envelope, MessageId, wire};

/// One record: its id, and what could be read of it.
#[derive(Debug)]
pub(crate) struct Record {
    /// What is reported when it fails.
    pub(crate) id: String,
    /// The message group, on FIFO queues and where it could be read.
    pub(crate) group: Option<String>,
    /// The message, or why it cannot be read.
    pub(crate) envelope: Result<Envelope, String>,
}

/// The records of an event, all of one queue.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) queue: String,
    pub(crate) is_fifo: bool,
    pub(crate) records: Vec<Record>,
}

impl Event {
    /// Reads an event. The error is one of the event as a whole: nothing of it may be reported as
    /// done.
    pub(crate) fn read(mut event: Value) -> Result<Self, String> {
        let records = match event.get_mut("Records").map(Value::take) {
            Some(Value::Array(records)) if !records.is_empty() => records,
            _ => return Err("the event has no Records, so it is not one of SQS".into()),
        };
        if let Some(source) = records.iter().find_map(|record| {
            let source = record.get("eventSource")?.as_str()?;
            (source != "aws:sqs").then_some(source)
        }) {
            return Err(format!(
                "the event is of {source:?}, and this function handles events of SQS"
            ));
        }
        let arn = records
            .iter()
            .find_map(|record| record.get("eventSourceARN")?.as_str())
            .unwrap_or_default();
        let queue = arn.rsplit(':').next().unwrap_or_default().to_owned();
        let is_fifo = queue.ends_with(".fifo");
        let records = records
            .into_iter()
            .enumerate()
            .map(|(i, record)| {
                Record::read(record, is_fifo).ok_or_else(|| {
                    format!("record {i} has no messageId, so that it could not be reported")
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            queue,
            is_fifo,
            records,
        })
    }
}

impl Record {
    /// `None` where there is no id.
    fn read(record: Value, is_fifo: bool) -> Option<Self> {
        let id = record
            .get("messageId")?
            .as_str()
            .filter(|id| !id.is_empty())?
            .to_owned();
        let group = record
            .get("attributes")
            .and_then(|attributes| attributes.get("MessageGroupId")?.as_str())
            .filter(|_| is_fifo)
            .map(str::to_owned);
        let envelope = serde_json::from_value::<SqsMessage>(record)
            .map_err(|error| format!("it is not a message of SQS: {error}"))
            .and_then(|message| decode(&id, message, is_fifo));
        Some(Self {
            id,
            group,
            envelope,
        })
    }
}

fn decode(id: &str, message: SqsMessage, is_fifo: bool) -> Result<Envelope, String> {
    let body = message.body.ok_or("it came without a body")?;
    let system = message.attributes;
    let attributes = message
        .message_attributes
        .into_iter()
        .map(|(name, value)| (name, text(value)));
    let id = MessageId::from(id);
    let system = |name: &str| system.get(name).map(String::as_str);
    Ok(wire::sqs::envelope(id, body, attributes, system, is_fifo))
}

/// Numbers as they are written, bytes as base64.
fn text(value: SqsMessageAttribute) -> String {
    match (value.string_value, value.binary_value) {
        (Some(text), _) => text,
        (None, Some(bytes)) => BASE64_STANDARD.encode(&*bytes),
        (None, None) => String::new(),
    }
}
