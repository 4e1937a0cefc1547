//! A line about something in the process.

use serde::Serialize;

/// How something in the process is: a breaker, a spool, a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Status {
    /// All is well.
    pub fn good(text: impl Into<String>) -> Self {
        Self {
            ok: true,
            text: text.into(),
        }
    }

    /// Somebody should look.
    pub fn bad(text: impl Into<String>) -> Self {
        Self {
            ok: false,
            text: text.into(),
        }
    }
}
