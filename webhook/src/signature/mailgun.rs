//! Mailgun: a signature block in the body.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};
use towpath_core::{Error, ErrorKind};

use super::{
    Key, Place, SignatureError, Signed, Signer, Tolerance, Verified, Verifier, fields,
    key::{MacKeys, hmac_sha256, optional_header},
    tolerance::Timestamp,
};
/// Mailgun's webhooks (JSON) and inbound routes (forms): HMAC-SHA256 over a timestamp and a token,
/// in hex, in the body. The secret is the *HTTP webhook signing key*.
///
/// **The signature does not cover the body.** Whoever sees one request can put its signature on
/// another body, so every token must be used only once: give [`Verified::single_use`] to a
/// [`TokenStore`](super::replay::TokenStore).
///
/// Mailgun sends an event again for eight hours, and signs it only once as far as is known, so by
/// default a signature is accepted for nine hours; a shorter time loses the events of an outage.
///
/// In JSON, the id of the event is `event-data.id`. An inbound route has none; there, the token
/// takes its place. For events of a subaccount, the primary account's signature (`parent-signature`)
/// is accepted too.
///
/// <https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks>
#[derive(Clone, Debug)]
pub struct Mailgun {
    keys: MacKeys,
    tolerance: Tolerance,
}

const TIMESTAMP: Place = Place::Field("/signature/timestamp");
const TOKEN: Place = Place::Field("/signature/token");
const SIGNATURE: Place = Place::Field("/signature/signature");
const PARENT: Place = Place::Field("/signature/parent-signature");

/// How many bytes a token may have. Mailgun makes 50.
const MAX_TOKEN: usize = 256;

impl Mailgun {
    /// How old a signature may be, unless said otherwise: 9 hours.
    pub(crate) const DEFAULT_TOLERANCE: Duration = Duration::from_secs(9 * 3_600);

    /// Accepts requests signed with one of `keys`.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        Self {
            keys: MacKeys::sha256(keys),
            tolerance: Tolerance {
                past: Self::DEFAULT_TOLERANCE,
                ..Tolerance::default()
            },
        }
    }

    /// How old a signature may be. 9 hours, and 300 seconds in the future, by default.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = tolerance.into();
        self
    }
}

/// The signature block and the id of the event, from whatever form they came in.
struct Block {
    timestamp: String,
    token: String,
    signature: String,
    parent_signature: Option<String>,
    event_id: Option<String>,
}

impl Verifier for Mailgun {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> Result<Verified, SignatureError> {
        let block = read(headers, body)?;
        let timestamp = Timestamp::parse(&block.timestamp, TIMESTAMP)?;
        if !(1..=MAX_TOKEN).contains(&block.token.len()) {
            return Err(TOKEN.malformed("is not a token of 1 to 256 bytes"));
        }
        let mut signatures = vec![decode(&block.signature, SIGNATURE)?];
        if let Some(parent) = &block.parent_signature {
            signatures.push(decode(parent, PARENT)?);
        }
        let signed = [block.timestamp.as_bytes(), block.token.as_bytes()];
        let key = self
            .keys
            .position(&signed, &signatures)
            .ok_or(SignatureError::Mismatch(SIGNATURE))?;
        self.tolerance.check(timestamp, received_at)?;
        Ok(Verified {
            event_id: block.event_id,
            key,
            signed_at: timestamp.time(),
            // Not the token alone: a digit moved from the timestamp to the token keeps the
            // signature right.
            single_use: Some(block.timestamp + &block.token),
        })
    }
}

fn decode(text: &str, place: Place) -> Result<Vec<u8>, SignatureError> {
    hex::decode(text)
        .ok()
        .filter(|signature| signature.len() == 32)
        .ok_or_else(|| place.malformed("is not 64 hexadecimal digits"))
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Block, SignatureError> {
    let content_type = optional_header(headers, &CONTENT_TYPE)?.unwrap_or("application/json");
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    match essence.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => flat(fields::urlencoded(body, NAMES)?),
        "multipart/form-data" => {
            let boundary = fields::boundary(parameters).ok_or_else(|| {
                Place::Header(CONTENT_TYPE).malformed("names no legal multipart boundary")
            })?;
            flat(fields::multipart(body, boundary, NAMES)?)
        }
        _ => json_block(body),
    }
}

const NAMES: [&str; 3] = ["timestamp", "token", "signature"];

fn flat(values: [Option<String>; 3]) -> Result<Block, SignatureError> {
    let missing = |name| SignatureError::Missing(Place::Field(name));
    let [timestamp, token, signature] = values;
    let token = token.ok_or_else(|| missing("token"))?;
    Ok(Block {
        timestamp: timestamp.ok_or_else(|| missing("timestamp"))?,
        event_id: Some(token.clone()),
        token,
        signature: signature.ok_or_else(|| missing("signature"))?,
        parent_signature: None,
    })
}

fn json_block(body: &[u8]) -> Result<Block, SignatureError> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default)]
        signature: Value,
        #[serde(default, rename = "event-data")]
        event: Value,
    }
    let request: Request = serde_json::from_slice(body)
        .map_err(|_| Place::Body.malformed("is not a JSON object, or is nested too deeply"))?;
    let block = match request.signature {
        Value::Object(block) => block,
        Value::Null => return Err(SignatureError::Missing(Place::Field("/signature"))),
        _ => return Err(Place::Field("/signature").malformed("is not an object")),
    };
    let text = |name: &str, place: Place| match block.get(name) {
        None | Some(Value::Null) => Err(SignatureError::Missing(place)),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(place.malformed("is not a string")),
    };
    let timestamp = match block.get("timestamp") {
        Some(Value::Number(number)) => number.to_string(),
        _ => text("timestamp", TIMESTAMP)?,
    };
    let id = request.event.get("id").and_then(Value::as_str);
    Ok(Block {
        timestamp,
        token: text("token", TOKEN)?,
        signature: text("signature", SIGNATURE)?,
        parent_signature: match text("parent-signature", PARENT) {
            Err(SignatureError::Missing(_)) => None,
            other => Some(other?),
        },
        event_id: id.filter(|id| !id.is_empty()).map(str::to_owned),
    })
}

impl Signer for Mailgun {
    /// Puts the signature block, with `id` as its token, into the JSON object `body`.
    fn sign(&self, body: &[u8], id: &str, at: SystemTime) -> towpath_core::Result<Signed> {
        let refuse = |why: &str| Error::new(ErrorKind::InvalidMessage, why.to_owned());
        let mut body: Value = serde_json::from_slice(body)
            .map_err(|error| refuse("the body to sign is not JSON").with_source(error))?;
        if !(1..=MAX_TOKEN).contains(&id.len()) {
            return Err(refuse("the token is not 1 to 256 bytes long"));
        }
        let timestamp = Timestamp::at(at)?.to_string();
        let signature = self.keys.sign(&[timestamp.as_bytes(), id.as_bytes()])?;
        body.as_object_mut()
            .ok_or_else(|| refuse("the body to sign is not a JSON object"))?
            .insert(
                "signature".to_owned(),
                block(&json!(timestamp), id, &signature),
            );
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Signed {
            headers,
            body: Bytes::from(body.to_string()),
        })
    }
}

/// A signed webhook around `event`, as Mailgun posts it. `timestamp` is a string or an integer;
/// Mailgun sends both.
pub fn signed_body(key: &Key, timestamp: &Value, token: &str, event: &Value) -> Value {
    let text = match timestamp {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let signature = hmac_sha256(key, &[text.as_bytes(), token.as_bytes()]);
    json!({ "signature": block(timestamp, token, &signature), "event-data": event })
}

fn block(timestamp: &Value, token: &str, signature: &[u8]) -> Value {
    json!({ "timestamp": timestamp, "token": token, "signature": hex::encode(signature) })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const KEY: &str = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0";
    const AT: u64 = 1_529_006_854;
    const TOKEN_TEXT: &str = "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0";
    const SIGNATURE_TEXT: &str = "b63c0701c4f4b614f272106a1b367c5c3369bcdca664ae73ebd52787e45eef07";

    fn mailgun() -> Mailgun {
        Mailgun::new([Key::new(KEY)])
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn typed(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())])
    }

    fn vector(timestamp: Value) -> Value {
        json!({
            "signature": { "timestamp": timestamp, "token": TOKEN_TEXT, "signature": SIGNATURE_TEXT },
            "event-data": { "event": "opened", "id": "Ase7i2zsRYeDXztHGENqRA" },
        })
    }

    fn verify(body: &Value) -> Result<Verified, SignatureError> {
        mailgun().verify(
            &typed("application/json"),
            body.to_string().as_bytes(),
            at(AT),
        )
    }

    #[test]
    fn the_known_signature_is_accepted_with_a_text_or_a_number_as_time() {
        for timestamp in [json!(AT.to_string()), json!(AT)] {
            let verified = verify(&vector(timestamp)).unwrap();
            assert_eq!(verified.event_id.as_deref(), Some("Ase7i2zsRYeDXztHGENqRA"));
            assert_eq!(verified.signed_at, Some(at(AT)));
            assert_eq!(verified.single_use, Some(format!("{AT}{TOKEN_TEXT}")));
        }
    }

    #[test]
    fn the_known_signature_is_made() {
        for timestamp in [json!(AT.to_string()), json!(AT)] {
            let event = json!({ "event": "opened", "id": "Ase7i2zsRYeDXztHGENqRA" });
            let made = signed_body(&Key::new(KEY), &timestamp, TOKEN_TEXT, &event);
            assert_eq!(made, vector(timestamp));
        }
    }

    #[test]
    fn forms_are_accepted_and_the_token_is_their_id() {
        let urlencoded = format!(
            "recipient=a%40b.example&timestamp={AT}&token={TOKEN_TEXT}&signature={SIGNATURE_TEXT}"
        );
        let part = |name: &str, value: &str| {
            format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let multipart = part("timestamp", &AT.to_string())
            + &part("token", TOKEN_TEXT)
            + &part("subject", "größe")
            + &part("signature", SIGNATURE_TEXT)
            + "--b0--\r\n";
        for (content_type, body) in [
            (
                "application/x-www-form-urlencoded; charset=utf-8",
                urlencoded,
            ),
            ("Multipart/Form-Data; boundary=b0", multipart),
        ] {
            let verified = mailgun()
                .verify(&typed(content_type), body.as_bytes(), at(AT))
                .unwrap();
            assert_eq!(verified.event_id.as_deref(), Some(TOKEN_TEXT));
            let changed = body.replace(&SIGNATURE_TEXT[..8], "00000000");
            assert_eq!(
                mailgun().verify(&typed(content_type), changed.as_bytes(), at(AT)),
                Err(SignatureError::Mismatch(SIGNATURE))
            );
            let cut = body.replace("token", "tokem");
            assert_eq!(
                mailgun().verify(&typed(content_type), cut.as_bytes(), at(AT)),
                Err(SignatureError::Missing(Place::Field("token")))
            );
        }
    }

    #[test]
    fn every_part_of_the_block_is_needed_and_counts() {
        for name in ["timestamp", "token", "signature"] {
            let mut body = vector(json!(AT.to_string()));
            let text = body["signature"][name].as_str().unwrap().to_owned();
            let last = if text.ends_with('0') { "1" } else { "0" };
            body["signature"][name] = json!(text[..text.len() - 1].to_owned() + last);
            assert_eq!(
                verify(&body),
                Err(SignatureError::Mismatch(SIGNATURE)),
                "{name}"
            );
            body["signature"][name] = json!(["x"]);
            assert!(
                matches!(verify(&body), Err(SignatureError::Malformed { .. })),
                "{name}"
            );
            body["signature"].as_object_mut().unwrap().remove(name);
            assert!(
                matches!(verify(&body), Err(SignatureError::Missing(_))),
                "{name}"
            );
        }
        assert_eq!(
            verify(&json!({ "event-data": {} })),
            Err(SignatureError::Missing(Place::Field("/signature")))
        );
        assert!(verify(&json!(["signature"])).is_err());
        assert!(verify(&json!({ "signature": "x" })).is_err());
    }

    #[test]
    fn absurd_timestamps_are_malformed() {
        for timestamp in [
            json!(i64::MIN),
            json!(-1),
            json!(u64::MAX),
            json!(1e300),
            json!(1_529_006_854.5),
            json!(""),
            json!("-9223372036854775808"),
            json!("99999999999999999999"),
            json!("tomorrow"),
        ] {
            let error = verify(&vector(timestamp.clone())).unwrap_err();
            assert_eq!(error.as_str(), "malformed", "{timestamp}");
        }
    }

    #[test]
    fn retries_are_accepted_for_nine_hours() {
        let body = vector(json!(AT)).to_string();
        let verify = |seconds| mailgun().verify(&HeaderMap::new(), body.as_bytes(), at(seconds));
        assert!(verify(AT + 9 * 3_600).is_ok());
        assert_eq!(verify(AT + 9 * 3_600 + 1).unwrap_err().as_str(), "expired");
        assert!(verify(AT - 300).is_ok());
        assert_eq!(verify(AT - 301).unwrap_err().as_str(), "not_yet_valid");
    }

    #[test]
    fn the_primary_account_may_have_signed() {
        let mut body = vector(json!(AT));
        body["signature"]["parent-signature"] = json!(SIGNATURE_TEXT);
        body["signature"]["signature"] = json!("00".repeat(32));
        assert!(verify(&body).is_ok());
        body["signature"]["parent-signature"] = json!("00".repeat(32));
        assert!(verify(&body).is_err());
    }

    #[test]
    fn a_digit_moved_between_timestamp_and_token_is_the_same_single_use() {
        let mut body = vector(json!("152900685"));
        body["signature"]["token"] = json!(format!("4{TOKEN_TEXT}"));
        let patient = mailgun().with_tolerance(Tolerance::both(Duration::MAX));
        let verified = patient
            .verify(&HeaderMap::new(), body.to_string().as_bytes(), at(AT))
            .unwrap();
        assert_eq!(verified.single_use, Some(format!("{AT}{TOKEN_TEXT}")));
    }

    #[test]
    fn an_event_without_the_right_shape_is_verified_all_the_same() {
        for event in [
            json!(["x"]),
            json!({ "id": 17 }),
            json!({ "id": "" }),
            Value::Null,
        ] {
            let mut body = vector(json!(AT));
            body["event-data"] = event;
            assert_eq!(verify(&body).unwrap().event_id, None);
        }
    }
}
