//! The first worker: from a Mailgun event to what the CRM is told.

use serde::{Deserialize, Serialize};
use towpath::{Attempt, Failure, Message, Producer};

/// The attribute that names the updater's destination.
pub const DESTINATION: &str = "destination";
/// The updater's destination for activities.
pub const ACTIVITIES: &str = "crm-activities";

/// Something to be added to a customer's history; the body of a message in the queue of updates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Activity {
    /// The e-mail address that names the customer.
    pub customer: String,
    /// What it was, for instance `email_opened`.
    pub kind: String,
    /// When it happened, as RFC 3339.
    pub at: String,
    /// One line for people.
    pub summary: String,
}

#[derive(Deserialize)]
struct Webhook {
    #[serde(rename = "event-data")]
    event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Event {
    event: String,
    timestamp: f64,
    recipient: String,
    severity: Option<String>,
    url: Option<String>,
    message: Option<Mail>,
    delivery_status: Option<DeliveryStatus>,
}

#[derive(Deserialize)]
struct Mail {
    headers: Option<MailHeaders>,
}

#[derive(Deserialize)]
struct MailHeaders {
    subject: Option<String>,
}

#[derive(Deserialize)]
struct DeliveryStatus {
    message: Option<String>,
}

/// Turns one queued webhook into one queued update. Both have the same idempotency key, so a
/// webhook that is handled twice changes the CRM once.
pub async fn handle(attempt: Attempt, updates: &Producer) -> Result<(), Failure> {
    let webhook: Webhook = attempt.json()?;
    let update = Message::json(&activity(webhook.event)?)?
        .with_attribute(DESTINATION, ACTIVITIES)
        .with_idempotency_key(attempt.envelope().message.idempotency_key());
    updates.send(update).await?;
    Ok(())
}

fn activity(event: Event) -> Result<Activity, Failure> {
    let what = match (event.event.as_str(), event.severity.as_deref()) {
        ("failed", Some("permanent")) => "bounced".to_owned(),
        ("failed", _) => "delayed".to_owned(),
        (kind, _) => kind.to_owned(),
    };
    let subject = event.message.and_then(|mail| mail.headers?.subject);
    let mut summary = format!("Mail {what}");
    if let Some(subject) = subject {
        summary.push_str(&format!(": {subject}"));
    }
    if let Some(detail) = event.url.or_else(|| event.delivery_status?.message) {
        summary.push_str(&format!(" ({detail})"));
    }
    let seconds =
        std::time::Duration::try_from_secs_f64(event.timestamp).map_err(Failure::permanent)?;
    let at = std::time::SystemTime::UNIX_EPOCH
        .checked_add(seconds)
        .ok_or_else(|| Failure::permanent("the event's time is out of range"))?;
    Ok(Activity {
        customer: event.recipient,
        kind: format!("email_{what}"),
        at: humantime::format_rfc3339_millis(at).to_string(),
        summary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Expect, generate};

    #[test]
    fn every_accepted_event_becomes_an_activity_of_its_recipient() {
        for line in generate(7, 1_200)
            .into_iter()
            .filter(|line| line.expect == Expect::Accepted)
        {
            let event: Event = serde_json::from_value(line.event.clone()).unwrap();
            let Activity {
                customer,
                kind,
                at,
                summary,
            } = activity(event).unwrap();
            assert_eq!(customer, line.event["recipient"]);
            assert!(
                kind.starts_with("email_") && at.starts_with("2025-"),
                "{kind} {at}"
            );
            assert!(summary.starts_with("Mail "), "{summary}");
        }
    }

    #[test]
    fn a_time_that_no_clock_can_show_is_refused_for_good() {
        let event = |timestamp| Event {
            event: "opened".into(),
            timestamp,
            recipient: "a@b.example".into(),
            severity: None,
            url: None,
            message: None,
            delivery_status: None,
        };
        for timestamp in [-1.0, f64::NAN, 1e300, 1e19] {
            assert!(
                activity(event(timestamp)).unwrap_err().is_permanent(),
                "{timestamp}"
            );
        }
    }
}
