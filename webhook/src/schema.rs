//! The shape of a JSON document.

use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use towpath_core::{Error, ErrorKind, Result};

use crate::problem::FieldError;

/// How deep a document may be nested, unless said otherwise.
const DEFAULT_DEPTH: usize = 64;
/// How deep a document may be nested at most: what the JSON parser takes.
const MAX_DEPTH: usize = 127;
/// How many errors of one document are told.
const MAX_ERRORS: usize = 10;
/// How much of one message or pointer is told, in bytes: senders choose the names of fields.
const MAX_TEXT: usize = 300;

/// A JSON Schema that documents are checked against.
///
/// Documents are nested at most 64 deep by default, which is checked before they are parsed.
/// `format` is checked. Patterns run in linear time, whatever is sent, so they have no look-around
/// and no back-references. Nothing is fetched: `$ref` reaches only into the schema itself.
///
/// Leave `additionalProperties` alone: providers add fields when they like.
///
/// ```
/// use towpath_webhook::Schema;
///
/// let schema = Schema::parse(r#"{ "properties": { "id": { "type": "string" } } }"#)?;
/// assert_eq!(schema.check(br#"{ "id": "evt_1", "new": true }"#).unwrap()["id"], "evt_1");
/// let error = schema.check(br#"{ "id": 17 }"#).unwrap_err();
/// assert_eq!(error.to_string(), "at /id: it is not of type \"string\"");
/// # Ok::<(), towpath_core::Error>(())
/// ```
pub struct Schema {
    validator: Validator,
    max_depth: usize,
}

/// Why a document is refused. It names places and what was expected there, and shows no values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaError {
    /// It is nested more deeply than allowed; the limit.
    TooDeep(usize),
    /// It is not JSON.
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// It breaks the schema: the first places where it does, at most 10.
    Invalid(Vec<FieldError>),
}

impl Schema {
    /// Reads a schema, of draft 2020-12 unless its `$schema` says otherwise.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` when it is no JSON, no schema, has an unknown `format`, a pattern that
    /// cannot run in linear time, or a `$ref` to something else.
    pub fn parse(text: &str) -> Result<Self> {
        let schema = serde_json::from_str(text).map_err(|error| {
            let message = format!("the JSON Schema is not JSON: {error}");
            Error::new(ErrorKind::InvalidConfig, message).with_source(error)
        })?;
        Self::new(&schema)
    }

    /// As [`parse`](Self::parse), for a schema that is parsed already.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn new(schema: &Value) -> Result<Self> {
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map_err(|error| {
                let place = error.instance_path();
                let message = format!("the JSON Schema is wrong at {:?}: {error}", place.as_str());
                Error::new(ErrorKind::InvalidConfig, message)
            })?;
        Ok(Self {
            validator,
            max_depth: DEFAULT_DEPTH,
        })
    }

    /// How deep a document may be nested: 1 is an object of strings. More than 127 counts as 127.
    #[must_use]
    pub fn with_max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth.min(MAX_DEPTH);
        self
    }

    /// Parses `body` and checks it.
    ///
    /// # Errors
    ///
    /// [`SchemaError`]: nested too deeply, not JSON, or where it breaks the schema.
    pub fn check(&self, body: &[u8]) -> std::result::Result<Value, SchemaError> {
        if is_deeper_than(body, self.max_depth) {
            return Err(SchemaError::TooDeep(self.max_depth));
        }
        let document = serde_json::from_slice(body).map_err(|error| SchemaError::NotJson {
            line: error.line(),
            column: error.column(),
        })?;
        let errors: Vec<FieldError> = self
            .validator
            .iter_errors(&document)
            .take(MAX_ERRORS)
            .map(|error| {
                let detail = error.masked_with("it").to_string();
                FieldError::new(
                    shortened(error.instance_path().as_str()),
                    shortened(&detail),
                )
            })
            .collect();
        if errors.is_empty() {
            Ok(document)
        } else {
            Err(SchemaError::Invalid(errors))
        }
    }
}

/// Whether brackets outside of strings are nested deeper than `limit`. Needs no stack.
fn is_deeper_than(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let mut end = MAX_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("max_depth", &self.max_depth)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep(limit) => write!(f, "it is nested more than {limit} deep"),
            Self::NotJson { line, column } => {
                write!(f, "it is not JSON: line {line}, column {column}")
            }
            Self::Invalid(errors) => {
                for (i, FieldError { pointer, detail }) in errors.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    let place = if pointer.is_empty() {
                        "the top"
                    } else {
                        pointer
                    };
                    write!(f, "{separator}at {place}: {detail}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for SchemaError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event() -> Schema {
        Schema::new(&json!({
            "type": "object",
            "required": ["id", "items"],
            "properties": {
                "id": { "type": "string", "minLength": 1, "pattern": "^[a-z]+$" },
                "mail": { "type": "string", "format": "email" },
                "items": { "type": "array", "items": { "type": "integer" } },
            },
        }))
        .unwrap()
    }

    #[test]
    fn unknown_fields_are_welcome() {
        let body = json!({ "id": "a", "items": [1, 2], "new": { "field": null } });
        assert_eq!(event().check(body.to_string().as_bytes()), Ok(body));
    }

    #[test]
    fn every_broken_place_is_named_and_no_value_is_shown() {
        let body = json!({ "id": "SECRET", "mail": "secret", "items": [1, "secret", 3, 4.5] });
        let error = event().check(body.to_string().as_bytes()).unwrap_err();
        let SchemaError::Invalid(errors) = &error else {
            panic!("{error:?}");
        };
        let mut pointers: Vec<&str> = errors.iter().map(|error| &*error.pointer).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/id", "/items/1", "/items/3", "/mail"]);
        assert!(
            !error.to_string().to_lowercase().contains("secret"),
            "{error}"
        );

        let error = event().check(b"{\"id\": \"a\"}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "at the top: \"items\" is a required property"
        );
        let error = event().check(b"[]").unwrap_err();
        assert_eq!(
            error.to_string(),
            "at the top: it is not of type \"object\""
        );
    }

    #[test]
    fn errors_are_bounded_in_number_and_length() {
        let body = json!({ "id": "a", "items": vec!["x"; 10_000] });
        match event().check(body.to_string().as_bytes()) {
            Err(SchemaError::Invalid(errors)) => assert_eq!(errors.len(), 10),
            other => panic!("{other:?}"),
        }
        let schema = Schema::new(&json!({ "additionalProperties": { "type": "null" } })).unwrap();
        let body = json!({ "é".repeat(10_000): 1 });
        let text = schema
            .check(body.to_string().as_bytes())
            .unwrap_err()
            .to_string();
        assert!(text.len() < 700, "{} bytes", text.len());
    }

    #[test]
    fn nesting_is_bounded_before_it_is_parsed() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let any = Schema::new(&json!(true)).unwrap();
        assert!(any.check(nested(64).as_bytes()).is_ok());
        assert_eq!(
            any.check(nested(65).as_bytes()),
            Err(SchemaError::TooDeep(64))
        );
        let million = "{\"a\":".repeat(1_000_000);
        assert_eq!(any.check(million.as_bytes()), Err(SchemaError::TooDeep(64)));
        let deepest = any.with_max_depth(usize::MAX);
        assert!(deepest.check(nested(127).as_bytes()).is_ok());
        assert_eq!(
            deepest.check(nested(128).as_bytes()),
            Err(SchemaError::TooDeep(127))
        );
        let brackets_in_strings = json!(["[[[", "\\\"[[[[", "{", 1]).to_string();
        let flat = deepest.with_max_depth(1);
        assert!(flat.check(brackets_in_strings.as_bytes()).is_ok());
        assert!(flat.check(b"[[]]").is_err());
    }

    #[test]
    fn what_is_not_json_is_placed() {
        for body in [
            &b""[..],
            b"{",
            b"{'a':1}",
            b"{} {}",
            b"\xff\xfe",
            b"\"\xff\"",
            b"\xef\xbb\xbf{}",
        ] {
            let error = event().check(body).unwrap_err();
            assert!(matches!(error, SchemaError::NotJson { .. }), "{error}");
        }
        let error = event().check(b"{\n  \"id\": nope\n}").unwrap_err();
        assert_eq!(error.to_string(), "it is not JSON: line 2, column 10");
    }

    #[test]
    fn a_schema_that_cannot_hold_its_promise_is_refused() {
        for schema in [
            json!({ "type": "strange" }),
            json!({ "pattern": "(?=look)ahead" }),
            json!({ "pattern": "(unclosed" }),
            json!({ "format": "emial" }),
            json!({ "$ref": "https://example.com/schema.json" }),
            json!({ "$ref": "file:///etc/passwd" }),
        ] {
            let error = Schema::new(&schema).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{schema}");
        }
        assert!(
            Schema::parse("{")
                .unwrap_err()
                .message()
                .contains("not JSON")
        );
    }

    #[test]
    fn a_pattern_takes_linear_time() {
        let schema = Schema::new(&json!({ "pattern": "^(a+)+$" })).unwrap();
        let body = json!("a".repeat(50_000) + "b").to_string();
        assert!(schema.check(body.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = event().check(&body);
        }

        #[test]
        fn near_json_does_no_harm(body in "[\\[\\]{}:,\"\\\\a0 ]{0,60}") {
            let parsed = serde_json::from_str::<Value>(&body).is_ok();
            let checked = Schema::new(&json!(true)).unwrap().check(body.as_bytes()).is_ok();
            prop_assert_eq!(parsed, checked);
        }
    }
}
