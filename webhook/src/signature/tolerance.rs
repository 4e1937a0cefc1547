//! How far a signed time may be from the time of receipt.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use towpath_core::{Error, ErrorKind};

use super::{Place, SignatureError};

/// How far a signed time may be from the time of receipt. 300 seconds both ways by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// How long before the receipt.
    pub past: Duration,
    /// How long after the receipt: only clocks that differ need it.
    pub future: Duration,
}

impl From<Duration> for Tolerance {
    /// The same both ways.
    fn from(tolerance: Duration) -> Self {
        Self::both(tolerance)
    }
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::both(Duration::from_secs(300))
    }
}

impl Tolerance {
    /// The same both ways.
    pub fn both(tolerance: Duration) -> Self {
        Self {
            past: tolerance,
            future: tolerance,
        }
    }

    /// Compares in i128 nanoseconds, in which no pair of an i64 and a `SystemTime` overflows.
    pub(super) fn check(
        &self,
        signed: Timestamp,
        received_at: SystemTime,
    ) -> Result<(), SignatureError> {
        let age = nanos(received_at) - i128::from(signed.0) * 1_000_000_000;
        let (past, future) = (self.past.as_nanos(), self.future.as_nanos());
        if age > 0 && age.unsigned_abs() > past {
            Err(SignatureError::Expired {
                age: duration(age.unsigned_abs()),
                tolerance: self.past,
            })
        } else if age < 0 && age.unsigned_abs() > future {
            Err(SignatureError::NotYetValid {
                ahead: duration(age.unsigned_abs()),
                tolerance: self.future,
            })
        } else {
            Ok(())
        }
    }
}

fn nanos(time: SystemTime) -> i128 {
    let signed = |d: Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX / 2);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => signed(since),
        Err(before) => -signed(before.duration()),
    }
}

fn duration(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::from_secs(seconds)
}

/// A time in whole seconds since 1970 that a sender wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timestamp(i64);

impl Timestamp {
    /// Reads decimal digits and nothing else: no sign, no space, no fraction.
    pub(super) fn parse(text: &str, place: Place) -> Result<Self, SignatureError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| digits)
            .map(Self)
            .filter(|timestamp| timestamp.time().is_some())
            .ok_or_else(|| place.malformed("is not a number of seconds since 1970"))
    }

    /// The whole seconds of `time`, for signing.
    pub(super) fn at(time: SystemTime) -> towpath_core::Result<Self> {
        time.duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .map(Self)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidMessage,
                    "the time to sign for is before 1970",
                )
            })
    }

    pub(super) fn time(self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(self.0).ok()?))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_that_fit_are_a_timestamp() {
        for text in [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e9",
            "0x1",
            "NaN",
            "now",
            "١٢٣",
            "-9223372036854775808",
            "9223372036854775808",
            "99999999999999999999999999",
        ] {
            assert!(Timestamp::parse(text, Place::Body).is_err(), "{text:?}");
        }
        assert_eq!(Timestamp::parse("0", Place::Body), Ok(Timestamp(0)));
        assert_eq!(
            Timestamp::parse("1614265330", Place::Body),
            Ok(Timestamp(1_614_265_330))
        );
    }

    #[test]
    fn the_limits_are_inclusive_and_extremes_do_not_overflow() {
        let tolerance = Tolerance::default();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let signed = Timestamp(1_000_000);
        assert!(tolerance.check(signed, at(1_000_300)).is_ok());
        assert!(tolerance.check(signed, at(999_700)).is_ok());
        assert_eq!(
            tolerance.check(signed, at(1_000_301)),
            Err(SignatureError::Expired {
                age: Duration::from_secs(301),
                tolerance: Duration::from_secs(300)
            })
        );
        assert_eq!(
            tolerance.check(signed, at(999_699)),
            Err(SignatureError::NotYetValid {
                ahead: Duration::from_secs(301),
                tolerance: Duration::from_secs(300)
            })
        );
        let before_1970 = UNIX_EPOCH - Duration::from_secs(u32::MAX.into());
        for seconds in [i64::MIN, -1, 0, 1, i64::MAX] {
            for received_at in [before_1970, UNIX_EPOCH, at(1 << 40)] {
                for tolerance in [Duration::ZERO, Duration::from_secs(300), Duration::MAX] {
                    let _ = Tolerance::both(tolerance).check(Timestamp(seconds), received_at);
                }
            }
        }
        assert!(
            Tolerance::both(Duration::MAX)
                .check(Timestamp(i64::MAX), before_1970)
                .is_ok()
        );
    }
}
