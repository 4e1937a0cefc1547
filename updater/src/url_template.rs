//! The URL of a destination: scheme, host and port are fixed, path and query may be filled.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use towpath_core::Failure;
use url::{Host, Url};

use crate::{
    Destination, address,
    template::{Part, Template, Values, unusable},
};

/// What stays as it is in a path segment or a query value: the unreserved characters of RFC 3986.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[derive(Clone, Debug)]
pub(crate) struct UrlTemplate {
    /// Scheme, host and port, without a slash at the end.
    origin: String,
    path: Template,
    query: Option<Template>,
}

impl UrlTemplate {
    /// Checks all that can be checked without a message. The errors do not repeat the URL, which
    /// may hold credentials by mistake.
    pub(crate) fn parse(text: &str, rules: Rules) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("url: has no scheme; write it like https://crm.example/contacts/{/id}")?;
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if scheme.contains('{') || authority.contains(['{', '}']) {
            return Err(
                "url: scheme, host and port are fixed; placeholders stand in the path and the query"
                    .into(),
            );
        }
        if authority.contains('@') {
            return Err("url: holds credentials; put them into auth".into());
        }
        let origin = format!("{scheme}://{authority}");
        check_origin(&origin, rules)?;
        let rest = Template::parse(rest).map_err(|error| format!("url: {error}"))?;
        let (rest, fragment) = rest.split_once('#');
        if fragment.is_some() {
            return Err("url: has a fragment (#), which is never sent; remove it".into());
        }
        let (path, query) = rest.split_once('?');
        let template = Self {
            origin,
            path,
            query,
        };
        for part in template.path.parts() {
            if let Part::Value(placeholder) = part
                && placeholder.is_optional
            {
                return Err(format!(
                    "url: {} cannot be optional in the path",
                    placeholder.place()
                ));
            }
        }
        // With harmless values, what is written must be what is requested.
        let (path, query) = template.join(|_| Ok::<_, String>("x".to_owned()))?;
        match template.normal(&path, query.as_deref()) {
            Some(_) => Ok(template),
            None => Err(
                "url: is not in its normal form: percent-encode spaces and other special \
                 characters, and write no . or .. segments"
                    .into(),
            ),
        }
    }

    /// The URL for one message.
    pub(crate) fn fill(&self, values: &Values<'_>) -> Result<Url, Failure> {
        let (path, query) = self.join(|part| {
            let Some(value) = values.text(part.placeholder)? else {
                return Ok(String::new());
            };
            if part.is_path {
                if value.is_empty() {
                    return Err(unusable(format!(
                        "{} is empty, and stands in the path of the URL",
                        part.placeholder.place()
                    )));
                }
                // Servers that decode before they route would take these for steps in the path.
                if value.split(['/', '\\']).any(|s| s == "." || s == "..") {
                    return Err(unusable(format!(
                        "{} would change the path of the URL",
                        part.placeholder.place()
                    )));
                }
            }
            Ok(utf8_percent_encode(&value, VALUE).to_string())
        })?;
        self.normal(&path, query.as_deref()).ok_or_else(|| {
            unusable("the values of the message would change the path of the URL".into())
        })
    }

    /// The URL, where it has no placeholders.
    pub(crate) fn constant(&self) -> Option<Url> {
        let (path, query) = self.join(|_| Err(())).ok()?;
        self.normal(&path, query.as_deref())
    }

    /// The URL up to the last slash before the first placeholder, without a query.
    pub(crate) fn prefix(&self) -> Option<Url> {
        let path = match self.path.parts() {
            [] => "/",
            [Part::Literal(path)] => path,
            [Part::Literal(path), ..] => path.rsplit_once('/').map_or("/", |(path, _)| path),
            [Part::Value(_), ..] => return None,
        };
        Url::parse(&format!("{}{path}", self.origin)).ok()
    }

    fn join<E>(
        &self,
        mut value: impl FnMut(UrlPart<'_>) -> Result<String, E>,
    ) -> Result<(String, Option<String>), E> {
        let mut write = |template: &Template, is_path: bool| {
            let mut text = String::new();
            for part in template.parts() {
                match part {
                    Part::Literal(literal) => text.push_str(literal),
                    Part::Value(placeholder) => text.push_str(&value(UrlPart {
                        placeholder,
                        is_path,
                    })?),
                }
            }
            Ok(text)
        };
        let mut path = write(&self.path, true)?;
        if path.is_empty() {
            path.push('/');
        }
        let query = self.query.as_ref().map(|query| write(query, false));
        Ok((path, query.transpose()?))
    }

    /// The URL, unless reading it changes path or query (as `..` does).
    fn normal(&self, path: &str, query: Option<&str>) -> Option<Url> {
        let mut text = format!("{}{path}", self.origin);
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        let url = Url::parse(&text).ok()?;
        (url.path() == path && url.query() == query).then_some(url)
    }
}

struct UrlPart<'a> {
    placeholder: &'a crate::template::Placeholder,
    is_path: bool,
}

/// What a destination allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) allow_private: bool,
    pub(crate) allow_http: bool,
}

impl Rules {
    pub(crate) fn of(config: &Destination) -> Self {
        Self {
            allow_private: config.allow_private,
            allow_http: config.allow_http,
        }
    }
}

/// Checks scheme and host; an address that stands for itself is checked here, since no name is
/// resolved for it.
fn check_origin(origin: &str, rules: Rules) -> Result<(), String> {
    let url = Url::parse(origin).map_err(|error| format!("url: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if rules.allow_http => {}
        "http" => {
            return Err("url: is plain http; use https, or set allow_http = true".into());
        }
        other => {
            return Err(format!(
                "url: the scheme {other:?} is neither https nor http"
            ));
        }
    }
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => ip.into(),
        Some(Host::Ipv6(ip)) => ip.into(),
        Some(Host::Domain(_)) => return Ok(()),
        None => return Err("url: names no host".into()),
    };
    if rules.allow_private || address::is_public(ip) {
        Ok(())
    } else {
        Err(format!("url: {ip} is {}", address::NOT_PUBLIC))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use towpath_core::{Attempt, Envelope, Message};

    const STRICT: Rules = Rules {
        allow_private: false,
        allow_http: false,
    };

    fn fill(url: &str, id: &str) -> Result<String, Failure> {
        let body = serde_json::json!({ "id": id }).to_string();
        let attempt = Attempt::new(Envelope::new(1.into(), Message::new(body)), "q");
        UrlTemplate::parse(url, STRICT)
            .unwrap()
            .fill(&Values::new(&attempt))
            .map(String::from)
    }

    #[test]
    fn values_are_percent_encoded() {
        assert_eq!(
            fill(
                "https://crm.example/contacts/{/id}/a?q={/id}&x=1",
                "a+b/c?d&é@x.y"
            )
            .unwrap(),
            "https://crm.example/contacts/a%2Bb%2Fc%3Fd%26%C3%A9%40x.y/a?q=a%2Bb%2Fc%3Fd%26%C3%A9%40x.y&x=1"
        );
        assert_eq!(
            fill("https://crm.example?id={/id}", "").unwrap(),
            "https://crm.example/?id="
        );
    }

    #[test]
    fn a_value_cannot_change_the_path() {
        for id in ["..", ".", "", "../admin", "a/../../b", r"..\admin"] {
            let failure = fill("https://crm.example/contacts/{/id}/x", id).unwrap_err();
            assert!(failure.is_permanent(), "{id}");
        }
        assert!(fill("https://crm.example/contacts/.{/id}/x", ".").is_err());
        assert!(fill("https://crm.example/%2{/id}/x", "e").is_err());
        assert!(fill("https://crm.example/c/{/id}", "...").is_ok());
    }

    #[test]
    fn mistakes_are_found_when_the_url_is_made() {
        for (url, hint) in [
            ("crm.example/x", "scheme"),
            ("https://{/host}/x", "fixed"),
            ("https://crm.example{/x}", "fixed"),
            ("{/scheme}://crm.example/x", "fixed"),
            ("https://me:hunter2@crm.example/x", "credentials"),
            ("https://crm.example/x#y", "fragment"),
            ("https://crm.example/x?{/a}#y", "fragment"),
            ("http://crm.example/x", "allow_http"),
            ("ftp://crm.example/x", "https"),
            ("https://crm.example/a b", "normal form"),
            ("https://crm.example/a/../b", "normal form"),
            ("https://crm.example/{/id?}", "optional"),
            ("https://crm.example/{id}", "{/json/pointer}"),
            ("https://127.0.0.1/x", "allow_private"),
            ("https://2130706433/x", "allow_private"),
            ("https://0x7f.1/x", "allow_private"),
            ("https://[::ffff:10.0.0.1]/x", "allow_private"),
            ("https://169.254.169.254/latest", "allow_private"),
            ("https://", "host"),
        ] {
            let error = UrlTemplate::parse(url, STRICT).unwrap_err();
            assert!(error.contains(hint), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_value_stays_within_its_place(id in any::<String>()) {
            if let Ok(url) = fill("https://crm.example/contacts/{/id}/notes?q={/id}", &id) {
                let url = Url::parse(&url).unwrap();
                prop_assert_eq!(url.host_str(), Some("crm.example"));
                let segments: Vec<_> = url.path_segments().unwrap().collect();
                prop_assert_eq!(segments.len(), 3);
                prop_assert_eq!((segments[0], segments[2]), ("contacts", "notes"));
                let decoded = percent_encoding::percent_decode_str(segments[1]).decode_utf8().unwrap();
                prop_assert_eq!(decoded.as_ref(), id.as_str());
                prop_assert_eq!(url.query_pairs().count(), 1);
                prop_assert_eq!(&url.query_pairs().next().unwrap().1, id.as_str());
            }
        }
    }
}
