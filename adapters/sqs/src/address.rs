//! Which queue is meant: by name, by URL, or by ARN.

use url::Url;

/// A queue as the target of a URL names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address {
    /// The queue's name, with `.fifo` where it has it.
    pub(crate) name: String,
    /// The account that owns it, where it was named.
    pub(crate) account: Option<String>,
    /// The region, where it was named.
    pub(crate) region: Option<String>,
    /// The queue's URL, where it was given.
    pub(crate) url: Option<String>,
    /// Where to connect to, where the URL is not that of an ordinary AWS endpoint.
    pub(crate) endpoint: Option<String>,
}

impl Address {
    /// Reads `orders`, `https://sqs.us-east-1.amazonaws.com/123456789012/orders` or
    /// `arn:aws:sqs:us-east-1:123456789012:orders`.
    ///
    /// The error is a sentence that says what is wrong.
    pub(crate) fn parse(target: &str) -> Result<Self, String> {
        let address = if target.starts_with("arn:") {
            Self::from_arn(target)?
        } else if target.contains("://") {
            Self::from_url(target)?
        } else {
            Self {
                name: target.to_owned(),
                ..Self::default()
            }
        };
        check_name(&address.name)?;
        if let Some(account) = &address.account {
            check_account(account)?;
        }
        Ok(address)
    }

    fn from_arn(arn: &str) -> Result<Self, String> {
        let parts: Vec<&str> = arn.split(':').collect();
        let [_, _, "sqs", region, account, name] = parts[..] else {
            return Err(format!(
                "{arn:?} is not the ARN of a queue; it is written \
                 arn:aws:sqs:us-east-1:123456789012:orders"
            ));
        };
        if region.is_empty() {
            return Err(format!("the ARN {arn:?} has no region"));
        }
        Ok(Self {
            name: name.to_owned(),
            account: Some(account.to_owned()),
            region: Some(region.to_owned()),
            ..Self::default()
        })
    }

    fn from_url(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{text:?} {why}; a queue's URL is written \
                 https://sqs.us-east-1.amazonaws.com/123456789012/orders"
            )
        };
        let url = Url::parse(text).map_err(|error| wrong(&format!("is not a URL ({error})")))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(wrong("is neither https nor http"));
        }
        let host = url.host_str().ok_or_else(|| wrong("has no host"))?;
        // Local servers put more segments in front.
        let mut segments = url
            .path_segments()
            .into_iter()
            .flatten()
            .rev()
            .filter(|segment| !segment.is_empty());
        let (Some(name), Some(account)) = (segments.next(), segments.next()) else {
            return Err(wrong("has no account and name"));
        };
        let (region, is_ordinary) = read_host(host);
        Ok(Self {
            name: name.to_owned(),
            account: Some(account.to_owned()),
            region,
            url: Some(text.to_owned()),
            endpoint: (!is_ordinary).then(|| url.origin().ascii_serialization()),
        })
    }

    /// Whether the name is that of a FIFO queue.
    pub(crate) fn is_fifo(&self) -> bool {
        is_fifo(&self.name)
    }
}

/// Whether `name` is that of a FIFO queue.
pub(crate) fn is_fifo(name: &str) -> bool {
    name.ends_with(".fifo")
}

/// The target that names the queue `name` beside the queue of `target`.
pub(crate) fn sibling(target: &str, name: &str) -> String {
    let is_full = name.starts_with("arn:") || name.contains("://");
    let separator = if target.starts_with("arn:") { ':' } else { '/' };
    match target.rsplit_once(separator) {
        Some((place, _)) if !is_full => format!("{place}{separator}{name}"),
        _ => name.to_owned(),
    }
}

/// The region that an AWS host tells, and whether it is an ordinary regional endpoint, which the
/// SDK finds by itself.
fn read_host(host: &str) -> (Option<String>, bool) {
    let Some(rest) = host
        .strip_suffix(".amazonaws.com")
        .or_else(|| host.strip_suffix(".amazonaws.com.cn"))
        .or_else(|| host.strip_suffix(".api.aws"))
    else {
        return (None, false);
    };
    let parts: Vec<&str> = rest.split('.').collect();
    match parts[..] {
        // The old endpoints: queue.amazonaws.com is that of us-east-1.
        ["queue"] => (Some("us-east-1".to_owned()), true),
        [region, "queue"] => (Some(region.to_owned()), true),
        ["sqs", region] => (Some(region.to_owned()), host.contains(".amazonaws.com")),
        ["sqs-fips", region] => (Some(region.to_owned()), false),
        [.., "sqs", region, "vpce"] => (Some(region.to_owned()), false),
        _ => (None, false),
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if stem.is_empty() || name.len() > 80 || !stem.bytes().all(legal) {
        return Err(format!(
            "{name:?} is no queue name: it has 1 to 80 letters, digits, `-` and `_`, and may end \
             in `.fifo`"
        ));
    }
    Ok(())
}

pub(crate) fn check_account(account: &str) -> Result<(), String> {
    if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("{account:?} is no AWS account: it has 12 digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_name_names_a_queue_of_the_own_account() {
        let address = Address::parse("orders.fifo").unwrap();
        assert_eq!(address.name, "orders.fifo");
        assert!(address.is_fifo());
        assert_eq!(
            (address.account, address.region, address.url),
            (None, None, None)
        );
    }

    #[test]
    fn an_arn_names_region_and_account() {
        let address = Address::parse("arn:aws-cn:sqs:cn-north-1:123456789012:orders").unwrap();
        assert_eq!(
            address,
            Address {
                name: "orders".to_owned(),
                account: some("123456789012"),
                region: some("cn-north-1"),
                url: None,
                endpoint: None,
            }
        );
    }

    #[test]
    fn a_url_names_everything_and_only_unusual_hosts_are_kept_as_the_endpoint() {
        let at = |host: &str| format!("{host}/123456789012/orders");
        let table = [
            (
                "https://sqs.us-east-1.amazonaws.com",
                some("us-east-1"),
                None,
            ),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn",
                some("cn-north-1"),
                None,
            ),
            ("https://queue.amazonaws.com", some("us-east-1"), None),
            (
                "https://eu-west-1.queue.amazonaws.com",
                some("eu-west-1"),
                None,
            ),
            (
                "https://sqs-fips.us-east-1.amazonaws.com",
                some("us-east-1"),
                some("https://sqs-fips.us-east-1.amazonaws.com"),
            ),
            (
                "https://sqs.eu-west-1.api.aws",
                some("eu-west-1"),
                some("https://sqs.eu-west-1.api.aws"),
            ),
            (
                "https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com",
                some("eu-west-1"),
                some("https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com"),
            ),
            ("http://127.0.0.1:9324", None, some("http://127.0.0.1:9324")),
            (
                "http://127.0.0.1:9324/queue",
                None,
                some("http://127.0.0.1:9324"),
            ),
        ];
        for (host, region, endpoint) in table {
            let address = Address::parse(&at(host)).unwrap();
            assert_eq!(address.name, "orders", "{host}");
            assert_eq!(address.account, some("123456789012"), "{host}");
            assert_eq!(address.url, Some(at(host)), "{host}");
            assert_eq!(address.region, region, "{host}");
            assert_eq!(address.endpoint, endpoint, "{host}");
        }
    }

    #[test]
    fn what_names_no_queue_is_refused_with_the_right_form() {
        let long = "a".repeat(81);
        let table = [
            ("or ders", "no queue name"),
            ("orders/x", "no queue name"),
            ("orders.", "no queue name"),
            (".fifo", "no queue name"),
            (long.as_str(), "no queue name"),
            ("arn:aws:sns:us-east-1:123456789012:orders", "arn:aws:sqs:"),
            ("arn:aws:sqs::123456789012:orders", "no region"),
            ("arn:aws:sqs:us-east-1:123456789012", "arn:aws:sqs:"),
            ("arn:aws:sqs:us-east-1:12345:orders", "12 digits"),
            (
                "https://sqs.us-east-1.amazonaws.com/orders",
                "account and name",
            ),
            ("https://sqs.us-east-1.amazonaws.com/x/orders", "12 digits"),
            (
                "ftp://sqs.us-east-1.amazonaws.com/123456789012/orders",
                "https",
            ),
        ];
        for (target, part) in table {
            let error = Address::parse(target).unwrap_err();
            assert!(error.contains(part), "{target}: {error}");
        }
    }

    #[test]
    fn a_sibling_is_in_the_same_place() {
        let table = [
            ("orders", "dlq", "dlq"),
            (
                "arn:aws:sqs:eu-west-1:123456789012:orders",
                "dlq",
                "arn:aws:sqs:eu-west-1:123456789012:dlq",
            ),
            (
                "https://h/123456789012/orders",
                "dlq",
                "https://h/123456789012/dlq",
            ),
            (
                "orders",
                "arn:aws:sqs:eu-west-1:123456789012:dlq",
                "arn:aws:sqs:eu-west-1:123456789012:dlq",
            ),
            (
                "arn:aws:sqs:eu-west-1:123456789012:orders",
                "arn:aws:sqs:eu-west-1:210987654321:dlq",
                "arn:aws:sqs:eu-west-1:210987654321:dlq",
            ),
        ];
        for (target, name, expected) in table {
            assert_eq!(sibling(target, name), expected);
        }
    }
}
