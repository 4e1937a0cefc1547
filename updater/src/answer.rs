//! What a destination answered, and what that means.

use std::{error::Error as StdError, time::Duration};

use reqwest::StatusCode;

use crate::{
    Class,
    address::Forbidden,
    redact::{excerpt, redact},
};

/// How many bytes of an answer's body are read before the connection is given up instead.
pub(crate) const READ: usize = 64 * 1_024;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Answer {
    Status {
        status: StatusCode,
        retry_after: Option<Duration>,
        location: Option<String>,
        body: Vec<u8>,
    },
    /// Nothing came in time.
    Timeout(Duration),
    /// The connection could not be made, or broke.
    Broken(String),
    /// The address is not allowed.
    Forbidden(String),
}

impl Answer {
    /// The end of a request that has no complete answer. The URL is left out: it may hold what the
    /// message is about.
    pub(crate) fn broken(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(forbidden) = Forbidden::find(&error) {
            return Self::Forbidden(forbidden.to_string());
        }
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self::Broken(text)
    }

    /// A few letters for the history of attempts: `503`, `timeout`.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Status { status, .. } => status.as_u16().to_string(),
            Self::Timeout(_) => "timeout".into(),
            Self::Broken(_) => "connection".into(),
            Self::Forbidden(_) => "address".into(),
        }
    }

    /// What happened, in words without `secrets`, which an answer may repeat.
    pub(crate) fn describe(&self, secrets: &[String]) -> String {
        match self {
            Self::Status {
                status,
                location,
                body,
                ..
            } => {
                let mut text = format!("answered {status}");
                if let Some(location) = location {
                    text = format!("{text} to {}", excerpt(location.as_bytes(), secrets));
                }
                if !body.is_empty() {
                    text = format!("{text}: {}", excerpt(body, secrets));
                }
                text
            }
            Self::Timeout(timeout) => format!(
                "did not answer within {}",
                humantime::format_duration(*timeout)
            ),
            Self::Broken(text) => format!("cannot be reached: {}", redact(text, secrets)),
            Self::Forbidden(text) => format!("is not called: {}", redact(text, secrets)),
        }
    }
}

/// What an answer means for the message, for the breaker, and for whoever runs this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) class: Class,
    pub(crate) health: Health,
    /// Whether it is the configuration that is wrong.
    pub(crate) is_alarm: bool,
}

/// What an answer says about the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is well, whatever it thinks of the message.
    Well,
    /// It is not.
    Unwell,
    /// It is not, and asks to be left alone for a while.
    Wait(Duration),
}

impl Meaning {
    pub(crate) fn of(answer: &Answer, class: impl Fn(u16) -> Class) -> Self {
        let Answer::Status {
            status,
            retry_after,
            ..
        } = answer
        else {
            return Self {
                class: Class::Transient,
                health: Health::Unwell,
                is_alarm: matches!(answer, Answer::Forbidden(_)),
            };
        };
        let class = class(status.as_u16());
        let (health, is_alarm) = match (class, status.as_u16()) {
            (Class::Success, _) => (Health::Well, false),
            (_, 401 | 403 | 407) => (Health::Unwell, true),
            (Class::Transient, 429 | 503) => match retry_after {
                Some(wait) if !wait.is_zero() => (Health::Wait(*wait), false),
                _ => (Health::Unwell, false),
            },
            (Class::Transient, 408 | 500..) => (Health::Unwell, false),
            _ => (Health::Well, false),
        };
        Self {
            class,
            health,
            is_alarm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(status: u16, retry_after: Option<u64>) -> Meaning {
        let answer = Answer::Status {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
            location: None,
            body: Vec::new(),
        };
        Meaning::of(&answer, Class::of)
    }

    #[test]
    fn every_status_has_a_meaning() {
        use Class::*;
        use Health::*;
        for (status, class, health, is_alarm) in [
            (200, Success, Well, false),
            (201, Success, Well, false),
            (204, Success, Well, false),
            (301, Permanent, Well, false),
            (304, Permanent, Well, false),
            (307, Permanent, Well, false),
            (400, Permanent, Well, false),
            (401, Permanent, Unwell, true),
            (403, Permanent, Unwell, true),
            (404, Permanent, Well, false),
            (407, Permanent, Unwell, true),
            (408, Transient, Unwell, false),
            (409, Transient, Well, false),
            (410, Permanent, Well, false),
            (422, Permanent, Well, false),
            (423, Transient, Well, false),
            (425, Transient, Well, false),
            (429, Transient, Unwell, false),
            (451, Permanent, Well, false),
            (500, Transient, Unwell, false),
            (503, Transient, Unwell, false),
            (599, Transient, Unwell, false),
        ] {
            let expected = Meaning {
                class,
                health,
                is_alarm,
            };
            assert_eq!(meaning(status, None), expected, "{status}");
        }
        let wait = Wait(Duration::from_secs(7));
        assert_eq!(meaning(429, Some(7)).health, wait);
        assert_eq!(meaning(503, Some(7)).health, wait);
        assert_eq!(meaning(503, Some(0)).health, Unwell);
        assert_eq!(meaning(500, Some(7)).health, Unwell);
        let lost = Meaning::of(&Answer::Broken("reset".into()), Class::of);
        assert_eq!((lost.class, lost.health), (Transient, Unwell));
    }
}
