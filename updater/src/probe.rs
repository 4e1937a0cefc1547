//! Asking whether a destination is well, before a message is risked.

use reqwest::{Client, Method, header::HeaderMap};
use url::Url;

use crate::{
    Destination,
    url_template::{Rules, UrlTemplate},
};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Nothing: a message finds out.
    None,
    /// Whether the destination answers at all, and not only what stands before it.
    Alive(Url),
    /// Whether it says that it is well.
    Well(Url),
}

impl Probe {
    /// The error names the field.
    pub(crate) fn new(config: &Destination) -> Result<Self, String> {
        let rules = Rules::of(config);
        let url = UrlTemplate::parse(&config.url, rules)?;
        let text = match config.probe.as_deref() {
            Some("none") => return Ok(Self::None),
            Some(text) => text,
            None => return Ok(url.prefix().map_or(Self::None, Self::Alive)),
        };
        let probe = UrlTemplate::parse(text, rules)
            .map_err(|error| error.replacen("url:", "probe:", 1))?
            .constant()
            .ok_or("probe: has a placeholder, and no message to fill it")?;
        // It is sent the credentials.
        if url.prefix().map(|url| url.origin()) != Some(probe.origin()) {
            return Err("probe: is not of the same scheme, host and port as url".into());
        }
        Ok(Self::Well(probe))
    }

    /// Asks. Without a probe, the destination is taken to be well.
    pub(crate) async fn is_well(&self, client: &Client, headers: HeaderMap) -> bool {
        let (method, url) = match self {
            Self::None => return true,
            Self::Alive(url) => (Method::HEAD, url),
            Self::Well(url) => (Method::GET, url),
        };
        let call = client.request(method, url.clone()).headers(headers);
        let Ok(response) = call.send().await else {
            return false;
        };
        match (self, response.status().as_u16()) {
            // Behind these answers of a front, or of a front's front, there is nobody.
            (Self::Alive(_), 408 | 429 | 502..=504 | 520..=530) => false,
            (Self::Alive(_), _) => true,
            (_, status) => (200..300).contains(&status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(url: &str, probe: Option<&str>) -> Result<Probe, String> {
        let mut config = Destination::new(url);
        config.probe = probe.map(str::to_owned);
        Probe::new(&config)
    }

    #[test]
    fn the_url_up_to_its_first_placeholder_is_asked_by_default() {
        for (url, asked) in [
            ("https://crm.example", "https://crm.example/"),
            ("https://crm.example/hook?key=1", "https://crm.example/hook"),
            (
                "https://crm.example/contacts/{/id}/notes",
                "https://crm.example/contacts",
            ),
            ("https://crm.example/v1/c-{/id}", "https://crm.example/v1"),
            ("https://crm.example/{/id}", "https://crm.example/"),
        ] {
            let asked = Probe::Alive(Url::parse(asked).unwrap());
            assert_eq!(probe(url, None), Ok(asked), "{url}");
        }
        assert_eq!(probe("https://crm.example", Some("none")), Ok(Probe::None));
    }

    #[test]
    fn a_probe_is_of_the_same_origin_and_needs_no_message() {
        let url = "https://crm.example/contacts/{/id}";
        let well = Url::parse("https://crm.example/health?deep=1").unwrap();
        assert_eq!(probe(url, Some(well.as_str())), Ok(Probe::Well(well)));
        for (text, hint) in [
            ("https://other.example/health", "same scheme, host and port"),
            (
                "https://crm.example:8443/health",
                "same scheme, host and port",
            ),
            ("https://crm.example/{/id}", "placeholder"),
            ("http://crm.example/health", "probe: is plain http"),
        ] {
            let error = probe(url, Some(text)).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }
}
