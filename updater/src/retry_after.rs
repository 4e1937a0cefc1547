//! The `Retry-After` header, as seconds or as a date.

use std::time::{Duration, SystemTime};

/// How long to wait from `now`, at most `most`; `None` where the value is neither form.
///
/// A date in the past is no wait.
pub(crate) fn parse(value: &str, now: SystemTime, most: Duration) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Only a number that is too large for u64 does not parse.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: Duration = Duration::from_secs(3_600);

    fn parse_at_epoch(value: &str) -> Option<u64> {
        parse(value, SystemTime::UNIX_EPOCH, MOST).map(|wait| wait.as_secs())
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse_at_epoch("120"), Some(120));
        assert_eq!(parse_at_epoch(" 0 "), Some(0));
        assert_eq!(parse_at_epoch("Thu, 01 Jan 1970 00:02:00 GMT"), Some(120));
        assert_eq!(
            parse_at_epoch("Thursday, 01-Jan-70 00:02:00 GMT"),
            Some(120)
        );
        assert_eq!(parse_at_epoch("Thu Jan  1 00:02:00 1970"), Some(120));
    }

    #[test]
    fn a_past_date_is_no_wait_and_a_long_one_is_cut() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let past = parse("Thu, 01 Jan 1970 00:00:00 GMT", now, MOST);
        assert_eq!(past, Some(Duration::ZERO));
        assert_eq!(parse_at_epoch("86400"), Some(3_600));
        assert_eq!(parse_at_epoch("99999999999999999999999999"), Some(3_600));
        assert_eq!(parse_at_epoch("Fri, 31 Dec 9999 23:59:59 GMT"), Some(3_600));
    }

    #[test]
    fn what_is_neither_is_ignored() {
        for value in [
            "",
            "-1",
            "1.5",
            "soon",
            "1 s",
            "Thu, 99 Jan 1970 00:00:00 GMT",
        ] {
            assert_eq!(parse_at_epoch(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_ignored_and_never_too_long(value in any::<String>()) {
            if let Some(wait) = parse(&value, SystemTime::now(), MOST) {
                prop_assert!(wait <= MOST);
            }
        }
    }
}
