//! One string at the top of a JSON document.

use std::{borrow::Cow, fmt};

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The string field `name` of the object in `body`, without building the rest of the document.
///
/// `None` for anything else, also where the document is broken: the signature has been verified
/// before, and whether the document has the right shape is not decided here.
pub(super) fn string_field(body: &[u8], name: &str) -> Option<String> {
    serde_json::Deserializer::from_slice(body)
        .deserialize_map(Field(name))
        .ok()
        .flatten()
        .filter(|value| !value.is_empty())
}

struct Field<'a>(&'a str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == self.0 {
                found = match map.next_value()? {
                    Value::String(value) => Some(value),
                    _ => None,
                };
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_string_at_the_top_and_nothing_else() {
        let found = |body: &str| string_field(body.as_bytes(), "id");
        assert_eq!(
            found(r#"{"a":[{"id":"no"}],"id":"evt_1","z":{}}"#).as_deref(),
            Some("evt_1")
        );
        assert_eq!(found(r#"{"\u0069d":"evt_1"}"#).as_deref(), Some("evt_1"));
        for body in [
            "",
            "[]",
            r#""id""#,
            r#"{"id":17}"#,
            r#"{"id":""}"#,
            r#"{"id":"x""#,
            r#"{"a":{"id":"x"}}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(found(body), None, "{body}");
        }
        let deep = format!(
            r#"{{"a":{}{},"id":"x"}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(found(&deep).as_deref(), Some("x"));
    }
}
