//! Made-up Mailgun events in Mailgun's documented shapes, from a seed.
//!
//! <https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure>

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The customer that the CRM refuses.
pub const REFUSED_CUSTOMER: &str = "blocked@refused.example";

/// One line of `events.jsonl`: an event, how it is posted, and the answer that is right.
///
/// The signature is made when the event is posted, because it holds the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The answer that is right.
    pub expect: Expect,
    /// Whether the signature's timestamp is a string or an integer; Mailgun sends both.
    pub timestamp: TimestampForm,
    /// What Mailgun reports.
    #[serde(rename = "event-data")]
    pub event: Value,
}

/// The answer that is right for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// Accepted for the first time.
    Accepted,
    /// Accepted before: the same event again.
    Duplicate,
    /// Refused, because it does not have the documented shape.
    Malformed,
    /// Refused, because its signature is wrong.
    Forged,
}

/// How the signature's timestamp is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestampForm {
    /// `"1529006854"`
    String,
    /// `1529006854`
    Integer,
}

/// `count` lines from `seed`; the same seed makes the same lines.
pub fn generate(seed: u64, count: usize) -> Vec<Line> {
    let mut rng = Rng::with_seed(seed);
    let mut lines: Vec<Line> = Vec::with_capacity(count);
    for number in 0..count {
        let timestamp = if rng.bool() {
            TimestampForm::String
        } else {
            TimestampForm::Integer
        };
        let earlier: Vec<usize> = (0..lines.len())
            .filter(|i| lines[*i].expect == Expect::Accepted)
            .collect();
        let (expect, event) = match rng.u32(0..100) {
            0..5 if !earlier.is_empty() => {
                let original = earlier[rng.usize(0..earlier.len())];
                (Expect::Duplicate, lines[original].event.clone())
            }
            5..9 => (Expect::Malformed, malformed(&mut rng, number)),
            9..11 => (Expect::Forged, event(&mut rng, number)),
            _ => (Expect::Accepted, event(&mut rng, number)),
        };
        lines.push(Line {
            expect,
            timestamp,
            event,
        });
    }
    lines
}

const PEOPLE: [(&str, &str); 10] = [
    ("ana.silva", "Ana Silva"),
    ("bjorn", "Björn Åkesson"),
    ("chloe", "Chloé Lefèvre"),
    ("dmitri", "Дмитрий Иванов"),
    ("emi", "田中 恵美"),
    ("fatima", "فاطمة الزهراء"),
    ("giorgos", "Γιώργος Παππάς"),
    ("hana", "Hana Nováková"),
    ("ines", "Inés Muñoz"),
    ("jose+news", "José \"Pepe\" O'Neill"),
];
const DOMAINS: [&str; 4] = [
    "customer.example",
    "firma.example",
    "büro.example",
    "mail.test",
];
const SUBJECTS: [&str; 6] = [
    "Your order has shipped",
    "Ihre Rechnung für März",
    "¡Bienvenido! 🎉",
    "ご注文ありがとうございます",
    "Re: \"quotes\" & <tags>, commas; and\ttabs",
    "Πρόσκληση",
];
const TAGS: [&str; 5] = [
    "newsletter",
    "welcome",
    "invoice",
    "größe-xl",
    "キャンペーン",
];
const COUNTRIES: [(&str, &str, &str); 4] = [
    ("DE", "BE", "Berlin"),
    ("BR", "SP", "São Paulo"),
    ("JP", "13", "東京"),
    ("US", "TX", "Austin"),
];

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(0..from.len())]
}

fn hex(rng: &mut Rng, digits: usize) -> String {
    (0..digits).map(|_| rng.digit(16)).collect()
}

fn event(rng: &mut Rng, number: usize) -> Value {
    let (user, name) = *pick(rng, &PEOPLE);
    let recipient = if rng.u32(0..40) == 0 {
        REFUSED_CUSTOMER.to_owned()
    } else {
        format!("{user}{}@{}", rng.u32(1..40), pick(rng, &DOMAINS))
    };
    let domain = recipient.split('@').nth(1).unwrap_or_default().to_owned();
    let timestamp = 1_760_000_000.0 + number as f64 * 7.0 + f64::from(rng.u32(0..1_000)) / 1_000.0;
    let message_id = format!("{}.{}@mg.shop.example", hex(rng, 12), number);
    let tags: Vec<&str> = TAGS
        .iter()
        .copied()
        .filter(|_| rng.u32(0..4) == 0)
        .collect();
    let kind = *pick(
        rng,
        &[
            "accepted",
            "rejected",
            "delivered",
            "delivered",
            "delivered",
            "failed",
            "failed",
            "opened",
            "opened",
            "clicked",
            "unsubscribed",
            "complained",
            "stored",
        ],
    );
    let mut event = json!({
        "id": hex(rng, 22),
        "event": kind,
        "timestamp": timestamp,
        "log-level": "info",
        "recipient": recipient,
        "recipient-domain": domain,
        "tags": tags,
        "campaigns": [],
        "user-variables": { "customer-name": name, "order": rng.u32(1_000..9_999) },
        "message": {
            "headers": {
                "message-id": message_id,
                "from": "Shop <hello@shop.example>",
                "to": format!("{name} <{recipient}>"),
                "subject": pick(rng, &SUBJECTS),
            },
            "attachments": [],
            "size": rng.u32(400..90_000),
        },
        "flags": { "is-routed": false, "is-authenticated": true, "is-system-test": false, "is-test-mode": false },
    });
    let details = match kind {
        "accepted" => {
            json!({ "method": "HTTP", "originating-ip": "192.0.2.17", "api-key-id": "ab12cd34-56ef78ab" })
        }
        "rejected" => {
            json!({ "log-level": "warn", "reject": { "reason": "Sandbox subdomains are for test purposes only", "description": "" } })
        }
        "delivered" => json!({
            "envelope": { "transport": "smtp", "sender": "hello@shop.example", "sending-ip": "192.0.2.41", "targets": recipient },
            "delivery-status": { "tls": true, "mx-host": format!("mx.{domain}"), "attempt-no": 1, "code": 250, "message": "OK", "description": "", "session-seconds": 0.43, "utf8": true, "certificate-verified": true },
        }),
        "failed" if rng.bool() => json!({
            "log-level": "error",
            "severity": "permanent",
            "reason": "bounce",
            "delivery-status": { "attempt-no": 1, "code": 550, "enhanced-code": "5.1.1", "message": "550 5.1.1 The email account that you tried to reach does not exist", "description": "", "session-seconds": 0.03 },
        }),
        "failed" => json!({
            "log-level": "warn",
            "severity": "temporary",
            "reason": "generic",
            "delivery-status": { "attempt-no": rng.u32(1..5), "code": 452, "enhanced-code": "4.2.2", "message": "452 4.2.2 The email account that you tried to reach is over quota", "description": "", "retry-seconds": 600, "session-seconds": 0.4 },
        }),
        "opened" | "clicked" | "unsubscribed" => {
            let (country, region, city) = *pick(rng, &COUNTRIES);
            let mut details = json!({
                "ip": "203.0.113.9",
                "geolocation": { "country": country, "region": region, "city": city },
                "client-info": { "client-type": "browser", "client-os": "Linux", "device-type": "desktop", "client-name": "Firefox", "user-agent": "Mozilla/5.0 (X11; Linux x86_64)" },
            });
            if kind == "clicked" {
                details["url"] = json!("https://shop.example/sale?utm_source=mail&x=größe");
            }
            details
        }
        "complained" => json!({ "log-level": "warn" }),
        _ => {
            json!({ "storage": { "key": hex(rng, 40), "url": "https://storage.mailgun.example/v3/domains/mg.shop.example/messages/x", "region": "us-west1", "env": "production" } })
        }
    };
    if let (Value::Object(event), Value::Object(details)) = (&mut event, details) {
        event.extend(details);
    }
    event
}

/// An event that breaks the documented shape in one way.
fn malformed(rng: &mut Rng, number: usize) -> Value {
    let mut event = event(rng, number);
    match rng.u32(0..6) {
        0 => {
            event.as_object_mut().map(|event| event.remove("id"));
        }
        1 => event["id"] = json!(""),
        2 => event["recipient"] = json!(17),
        3 => event["timestamp"] = json!("yesterday"),
        4 => event["event"] = json!("teleported"),
        _ => event = json!(["not", "an", "object"]),
    }
    event
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_data_file_is_what_the_generator_makes() {
        let file = include_str!("../events.jsonl");
        let made = generate(7, 1_200);
        assert_eq!(file.lines().count(), made.len());
        for (number, (line, made)) in file.lines().zip(&made).enumerate() {
            let line: Line = serde_json::from_str(line).unwrap();
            assert_eq!(&line, made, "line {}", number + 1);
        }
    }

    #[test]
    fn every_kind_of_event_and_answer_is_there() {
        let lines = generate(7, 1_200);
        let kinds: BTreeSet<String> = lines
            .iter()
            .filter(|line| line.expect == Expect::Accepted)
            .map(|line| format!("{} {}", line.event["event"], line.event["severity"]))
            .collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        for expect in [
            Expect::Accepted,
            Expect::Duplicate,
            Expect::Malformed,
            Expect::Forged,
        ] {
            for form in [TimestampForm::String, TimestampForm::Integer] {
                assert!(
                    lines
                        .iter()
                        .any(|line| line.expect == expect && line.timestamp == form)
                );
            }
        }
        let is_refused = |line: &&Line| line.event["recipient"] == REFUSED_CUSTOMER;
        assert!(lines.iter().filter(is_refused).count() > 5);
        let ids: Vec<_> = lines
            .iter()
            .filter(|line| line.expect == Expect::Accepted)
            .map(|line| line.event["id"].to_string())
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }
}
