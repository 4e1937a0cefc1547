//! What the clouds do now and then, on purpose and from a seed.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use towpath_core::{Error, ErrorKind};

/// How often a queue misbehaves. Each rate is a probability from 0 to 1; none is set at first.
///
/// As an option of the URL: `faults=duplicate:0.01,throttle:0.02,slow_send:50ms@0.01&seed=7`.
/// The same seed and the same calls in the same order give the same faults.
///
/// ```
/// use std::time::Duration;
/// use towpath_memory::Faults;
///
/// let faults = Faults::new()
///     .with_duplicate(0.01)
///     .with_slow_send(Duration::from_millis(50), 0.1);
/// assert_eq!(faults.to_string(), "duplicate:0.01,slow_send:50ms@0.1");
/// assert_eq!(faults.to_string().parse::<Faults>()?, faults);
/// # Ok::<(), towpath_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Faults {
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
    pub(crate) throttle: f64,
    pub(crate) lost_send: f64,
    pub(crate) lost_ack: f64,
    pub(crate) receive_error: f64,
    pub(crate) slow_send: f64,
    pub(crate) slow_send_by: Duration,
}

impl Faults {
    /// No faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `duplicate`: an accepted message is in the queue twice. Where acks are confirmed, the second
    /// copy has an id of its own, as if the producer had sent it again; never where the message has
    /// a deduplication id.
    #[must_use]
    pub fn with_duplicate(mut self, rate: f64) -> Self {
        self.duplicate = rate;
        self
    }

    /// `reorder`: before a receive, a message without ordering key moves behind the others.
    #[must_use]
    pub fn with_reorder(mut self, rate: f64) -> Self {
        self.reorder = rate;
        self
    }

    /// `throttle`: one entry of a send, an ack, a nack or an extension fails with
    /// [`Throttled`](ErrorKind::Throttled).
    #[must_use]
    pub fn with_throttle(mut self, rate: f64) -> Self {
        self.throttle = rate;
        self
    }

    /// `lost_send`: a message is accepted, but its sender gets a [`Timeout`](ErrorKind::Timeout).
    #[must_use]
    pub fn with_lost_send(mut self, rate: f64) -> Self {
        self.lost_send = rate;
        self
    }

    /// `lost_ack`: an ack has no effect. Where acks are submitted it returns `Ok` and the message
    /// comes back when its lease runs out; where they are confirmed it fails with
    /// [`Timeout`](ErrorKind::Timeout).
    #[must_use]
    pub fn with_lost_ack(mut self, rate: f64) -> Self {
        self.lost_ack = rate;
        self
    }

    /// `receive_error`: a receive fails with [`Unavailable`](ErrorKind::Unavailable).
    #[must_use]
    pub fn with_receive_error(mut self, rate: f64) -> Self {
        self.receive_error = rate;
        self
    }

    /// `slow_send`: a send call takes longer by `by`.
    #[must_use]
    pub fn with_slow_send(mut self, by: Duration, rate: f64) -> Self {
        self.slow_send = rate;
        self.slow_send_by = by;
        self
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn rates(&self) -> [(&'static str, f64); 7] {
        [
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("throttle", self.throttle),
            ("lost_send", self.lost_send),
            ("lost_ack", self.lost_ack),
            ("receive_error", self.receive_error),
            ("slow_send", self.slow_send),
        ]
    }

    /// Says which rate is not a probability.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self
            .rates()
            .into_iter()
            .find(|(_, rate)| !(0.0..=1.0).contains(rate))
        {
            Some((name, rate)) => Err(invalid(format!(
                "the rate {rate} of the fault {name} is not between 0 and 1"
            ))),
            None => Ok(()),
        }
    }
}

/// The form that [`FromStr`] reads.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, rate) in self.rates() {
            if rate == 0.0 {
                continue;
            }
            write!(f, "{separator}{name}:")?;
            if name == "slow_send" {
                write!(f, "{}@", humantime::format_duration(self.slow_send_by))?;
            }
            write!(f, "{rate}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for Faults {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut faults = Self::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let wrong = || {
                invalid(format!(
                    "{part:?} is no fault; write name:rate like duplicate:0.01, or \
                     slow_send:50ms@0.01 (known: {})",
                    Self::new().rates().map(|(name, _)| name).join(", ")
                ))
            };
            let (name, value) = part.trim().split_once(':').ok_or_else(wrong)?;
            let value = match value.split_once('@') {
                Some((by, rate)) if name == "slow_send" => {
                    faults.slow_send_by = humantime::parse_duration(by).map_err(|_| wrong())?;
                    rate
                }
                Some(_) => return Err(wrong()),
                None if name == "slow_send" => return Err(wrong()),
                None => value,
            };
            let rate = match name {
                "duplicate" => &mut faults.duplicate,
                "reorder" => &mut faults.reorder,
                "throttle" => &mut faults.throttle,
                "lost_send" => &mut faults.lost_send,
                "lost_ack" => &mut faults.lost_ack,
                "receive_error" => &mut faults.receive_error,
                "slow_send" => &mut faults.slow_send,
                _ => return Err(wrong()),
            };
            *rate = value.parse().map_err(|_| wrong())?;
        }
        faults.check()?;
        Ok(faults)
    }
}

impl TryFrom<String> for Faults {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
            .map_err(|error: Error| error.message().to_owned())
    }
}

impl From<Faults> for String {
    fn from(faults: Faults) -> Self {
        faults.to_string()
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message).with_backend("memory")
}

/// Faults with their source of chance.
#[derive(Debug)]
pub(crate) struct Dice {
    faults: Faults,
    random: fastrand::Rng,
}

impl Dice {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether the fault happens now. A rate of zero uses no chance.
    pub(crate) fn roll(&mut self, rate: impl FnOnce(&Faults) -> f64) -> bool {
        let rate = rate(&self.faults);
        rate > 0.0 && self.random.f64() < rate
    }

    /// By how much a send call is delayed.
    pub(crate) fn send_delay(&mut self) -> Option<Duration> {
        self.roll(|faults| faults.slow_send)
            .then_some(self.faults.slow_send_by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_fault_is_refused_with_the_right_form() {
        for text in [
            "duplicate",
            "duplicate:often",
            "dupe:0.1",
            "slow_send:0.1",
            "slow_send:soon@0.1",
            "throttle:1s@0.1",
            "lost_ack:1.5",
            "lost_ack:-1",
            "lost_ack:NaN",
        ] {
            let error = text.parse::<Faults>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
        }
    }

    #[test]
    fn all_faults_survive_a_round_trip() {
        let faults = Faults::new()
            .with_duplicate(0.1)
            .with_reorder(0.2)
            .with_throttle(0.3)
            .with_lost_send(0.4)
            .with_lost_ack(0.5)
            .with_receive_error(0.6)
            .with_slow_send(Duration::from_millis(1500), 1.0);
        assert_eq!(faults.to_string().parse::<Faults>().unwrap(), faults);
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let roll = |seed| {
            let mut dice = Dice::new(Faults::new().with_throttle(0.5), seed);
            (0..64)
                .map(|_| dice.roll(|f| f.throttle))
                .collect::<Vec<_>>()
        };
        assert_eq!(roll(7), roll(7));
        assert_ne!(roll(7), roll(8));
    }
}
