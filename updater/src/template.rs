//! Text with placeholders that a message fills.

use std::{borrow::Cow, cell::OnceCell};

use serde_json::Value;
use towpath_core::{Attempt, Failure, FailureClass};

/// A text with placeholders, checked when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    Value(Placeholder),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placeholder {
    source: Source,
    pub(crate) is_optional: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Pointer(String),
    Attribute(String),
    IdempotencyKey,
    OrderingKey,
    MessageId,
    Queue,
}

const FORMS: &str = "{/json/pointer}, {attribute.NAME}, {idempotency_key}, {ordering_key}, \
                     {message_id} or {queue}, with a ? at the end where the value may be missing";

impl Template {
    /// Reads a template; the error says what is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let position = text.len() - rest.len() + at;
            rest = &rest[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push_str(&rest[..1]);
                rest = &rest[2..];
            } else if rest.starts_with('}') {
                return Err(format!(
                    "a }} without a {{ at byte {position}; write }}}} for a brace"
                ));
            } else {
                let end = rest.find('}').ok_or_else(|| {
                    format!("the {{ at byte {position} is not closed; write {{{{ for a brace")
                })?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Value(Placeholder::parse(&rest[1..end])?));
                rest = &rest[end + 1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Splits at the first `separator` that is not within a placeholder.
    pub(crate) fn split_once(mut self, separator: char) -> (Self, Option<Self>) {
        let found = self.0.iter().enumerate().find_map(|(i, part)| match part {
            Part::Literal(text) => {
                let (before, after) = text.split_once(separator)?;
                Some((i, before.to_owned(), after.to_owned()))
            }
            Part::Value(_) => None,
        });
        let Some((i, before, after)) = found else {
            return (self, None);
        };
        let mut rest = vec![Part::Literal(after)];
        rest.extend(self.0.drain(i..).skip(1));
        self.0.push(Part::Literal(before));
        (self, Some(Self(rest)))
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The one placeholder, where there is nothing else.
    pub(crate) fn single(&self) -> Option<&Placeholder> {
        match self.0.as_slice() {
            [Part::Value(placeholder)] => Some(placeholder),
            _ => None,
        }
    }

    /// Fills the placeholders. Missing optional values are empty.
    pub(crate) fn fill(&self, values: &Values<'_>) -> Result<String, Failure> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Value(placeholder) => {
                    if let Some(value) = values.text(placeholder)? {
                        text.push_str(&value);
                    }
                }
            }
        }
        Ok(text)
    }
}

impl Placeholder {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, is_optional) = match text.strip_suffix('?') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let source = match name {
            "idempotency_key" => Source::IdempotencyKey,
            "ordering_key" => Source::OrderingKey,
            "message_id" => Source::MessageId,
            "queue" => Source::Queue,
            _ if name.starts_with('/') => {
                check_pointer(name)?;
                Source::Pointer(name.to_owned())
            }
            _ => match name.strip_prefix("attribute.") {
                Some(attribute) if !attribute.is_empty() => Source::Attribute(attribute.to_owned()),
                _ => return Err(format!("{{{text}}} is not known; write {FORMS}")),
            },
        };
        Ok(Self {
            source,
            is_optional,
        })
    }

    /// For messages: where the value was looked for.
    pub(crate) fn place(&self) -> String {
        match &self.source {
            Source::Pointer(pointer) => format!("{pointer} of the body"),
            Source::Attribute(name) => format!("the attribute {name:?}"),
            Source::IdempotencyKey => "the idempotency key".into(),
            Source::OrderingKey => "the ordering key".into(),
            Source::MessageId => "the message id".into(),
            Source::Queue => "the queue".into(),
        }
    }
}

/// Checks a JSON pointer (RFC 6901).
pub(crate) fn check_pointer(pointer: &str) -> Result<(), String> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(format!("the JSON pointer {pointer:?} must begin with /"));
    }
    let mut bytes = pointer.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'~' && !matches!(bytes.next(), Some(b'0' | b'1')) {
            return Err(format!(
                "in the JSON pointer {pointer:?}, ~ is written ~0 and / within a name ~1"
            ));
        }
    }
    Ok(())
}

/// Where the values of one message come from. The body is decoded once, when it is needed.
pub(crate) struct Values<'a> {
    attempt: &'a Attempt,
    json: OnceCell<Result<Value, Failure>>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(attempt: &'a Attempt) -> Self {
        Self {
            attempt,
            json: OnceCell::new(),
        }
    }

    /// What `pointer` finds in the body; null counts as nothing.
    pub(crate) fn pointer(&self, pointer: &str) -> Result<Option<&Value>, Failure> {
        match self.json.get_or_init(|| self.attempt.json()) {
            Ok(json) => Ok(json.pointer(pointer).filter(|value| !value.is_null())),
            Err(failure) => Err(failure.clone()),
        }
    }

    /// The value as text; `None` where it is missing and optional.
    pub(crate) fn text(&self, placeholder: &Placeholder) -> Result<Option<Cow<'_, str>>, Failure> {
        let message = &self.attempt.envelope().message;
        let value = match &placeholder.source {
            Source::Pointer(pointer) => match self.pointer(pointer)? {
                None => None,
                Some(value) => Some(scalar(value, placeholder)?),
            },
            Source::Attribute(name) => message.attributes().get(name).map(Cow::from),
            Source::IdempotencyKey => Some(message.idempotency_key().to_string().into()),
            Source::OrderingKey => message.ordering_key().map(Cow::from),
            Source::MessageId => Some(self.attempt.envelope().id.to_string().into()),
            Source::Queue => Some(self.attempt.queue().into()),
        };
        if value.is_none() && !placeholder.is_optional {
            return Err(missing(placeholder));
        }
        Ok(value)
    }

    /// The value as JSON, with its type; `None` where it is missing and optional.
    pub(crate) fn json(&self, placeholder: &Placeholder) -> Result<Option<Value>, Failure> {
        if let Source::Pointer(pointer) = &placeholder.source {
            let value = self.pointer(pointer)?.cloned();
            if value.is_none() && !placeholder.is_optional {
                return Err(missing(placeholder));
            }
            return Ok(value);
        }
        Ok(self
            .text(placeholder)?
            .map(|text| Value::String(text.into_owned())))
    }
}

/// A failure of the message that no retry can help.
pub(crate) fn unusable(reason: String) -> Failure {
    Failure::permanent_as(FailureClass::Undecodable, reason)
}

fn missing(placeholder: &Placeholder) -> Failure {
    unusable(format!(
        "the message has no {}, which the destination needs",
        placeholder.place().trim_start_matches("the ")
    ))
}

/// Strings, numbers and booleans have one form as text; the others do not.
fn scalar<'a>(value: &'a Value, placeholder: &Placeholder) -> Result<Cow<'a, str>, Failure> {
    // Beyond this, integers are read as floats, and another number than the one sent would be
    // written.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::String(text) => Ok(text.into()),
        Value::Bool(flag) => Ok(flag.to_string().into()),
        Value::Number(number)
            if number.is_f64() && number.as_f64().is_none_or(|n| n.abs() >= EXACT) =>
        {
            Err(unusable(format!(
                "the number at {} is too large to be written without loss; send it as a string",
                placeholder.place()
            )))
        }
        Value::Number(number) => Ok(number.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(unusable(format!(
            "what is at {} is no string, number or boolean",
            placeholder.place()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use towpath_core::{Envelope, Message};

    fn attempt(body: &str) -> Attempt {
        let message = Message::new(body.to_owned())
            .with_attribute("tenant", "acme")
            .with_ordering_key("customer-4");
        Attempt::new(Envelope::new("m-1".into(), message), "events")
    }

    fn fill(template: &str, body: &str) -> Result<String, String> {
        let attempt = attempt(body);
        Template::parse(template)
            .unwrap()
            .fill(&Values::new(&attempt))
            .map_err(|failure| failure.reason().to_owned())
    }

    #[test]
    fn placeholders_are_filled_from_the_message() {
        let body = r#"{"a": {"b/c": "x", "n": 12345678901, "t": true}, "none": null}"#;
        assert_eq!(
            fill("{{{/a/b~1c}}} {/a/n} {/a/t} {attribute.tenant} {ordering_key} {message_id} {queue}[{/none?}]", body).unwrap(),
            "{x} 12345678901 true acme customer-4 m-1 events[]"
        );
    }

    #[test]
    fn a_missing_value_is_a_permanent_failure_that_names_the_place() {
        let missing = fill("{/customer/email}", "{}").unwrap_err();
        assert!(missing.contains("/customer/email of the body"), "{missing}");
        let missing = fill("{attribute.other}", "{}").unwrap_err();
        assert!(missing.contains(r#"attribute "other""#), "{missing}");
        for body in [
            r#"{"x": [1]}"#,
            r#"{"x": {}}"#,
            r#"{"x": 123456789012345678901234}"#,
            "[",
        ] {
            let attempt = attempt(body);
            let failure = Template::parse("{/x}")
                .unwrap()
                .fill(&Values::new(&attempt))
                .unwrap_err();
            assert!(failure.is_permanent(), "{body}");
        }
    }

    #[test]
    fn a_body_is_not_decoded_when_no_pointer_needs_it() {
        assert_eq!(fill("{attribute.tenant}", "not json").unwrap(), "acme");
    }

    #[test]
    fn mistakes_are_found_when_the_template_is_made() {
        for (text, hint) in [
            ("a{b", "not closed"),
            ("a}b", "}} for a brace"),
            ("{}", "{/json/pointer}"),
            ("{email}", "{/json/pointer}"),
            ("{attribute.}", "{attribute.NAME}"),
            ("{/a~2}", "~0"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~é{}/~?]{0,40}") {
            let _ = Template::parse(&text);
        }

        #[test]
        fn text_without_placeholders_stays(text in any::<String>()) {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(fill(&escaped, "{}").unwrap(), text);
        }
    }
}
