//! Who may look, and who may change something.

use std::{io, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use subtle::ConstantTimeEq as _;

use crate::pages::PageError;

/// Decides on requests.
pub(crate) struct Guard {
    token: Option<String>,
    /// Proves that a form came from this page. Other sites cannot read it.
    form_token: String,
}

impl Guard {
    pub(crate) fn new(token: Option<&str>) -> io::Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(Self {
            token: token.map(str::to_owned),
            form_token: hex::encode(random),
        })
    }

    pub(crate) fn form_token(&self) -> &str {
        &self.form_token
    }

    pub(crate) fn is_form_token(&self, token: &str) -> bool {
        is_same(token, &self.form_token)
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match &self.token {
            Some(token) => match presented(headers) {
                Some(presented) if is_same(&presented, token) => Ok(()),
                _ => Err(Refused::NoToken),
            },
            None if is_loopback(headers) => Ok(()),
            None => Err(Refused::Host),
        }
    }
}

enum Refused {
    NoToken,
    Host,
}

/// Lets through who may look; answers carry what keeps a browser careful.
pub(crate) async fn guard(
    State(guard): State<Arc<crate::ops::State>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match guard.guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(Refused::NoToken) => {
            let mut response = PageError::new(
                StatusCode::UNAUTHORIZED,
                "Log in with the token of this page as the password; any user name will do.",
            )
            .into_response();
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Basic realm="towpath", charset="UTF-8""#),
            );
            response
        }
        Err(Refused::Host) => PageError::new(
            StatusCode::FORBIDDEN,
            "This page has no token, so it answers to localhost, 127.0.0.1 and [::1] only.",
        )
        .into_response(),
    };
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The token that a request carries.
fn presented(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    Some(password.to_owned())
}

/// Whether the request is for a loopback host: a foreign name that resolves to this machine is not.
fn is_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Compares in a time that does not tell where the difference is.
fn is_same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_loopback_hosts_are_loopback() {
        for good in [
            "localhost",
            "LOCALHOST:9180",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
        ] {
            assert!(is_loopback(&host(good)), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[fe80::1]",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(&host(bad)), "{bad}");
        }
        assert!(!is_loopback(&HeaderMap::new()));
    }

    #[test]
    fn the_token_comes_as_bearer_or_as_a_password() {
        let guard = Guard::new(Some("0123456789abcdef")).unwrap();
        let with = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            guard
                .check(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
                .is_ok()
        };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert!(with("Bearer 0123456789abcdef"));
        assert!(with("bearer 0123456789abcdef"));
        assert!(with(&basic("anybody:0123456789abcdef")));
        for bad in [
            "",
            "Bearer",
            "Bearer 0123456789abcdeF",
            "Basic !!",
            "Digest x",
        ] {
            assert!(!with(bad), "{bad}");
        }
        assert!(!with(&basic("0123456789abcdef")));
        // A loopback host is no substitute.
        assert!(guard.check(&host("localhost")).is_err());
    }
}
