//! Who sent a request: the OIDC token.

use std::fmt;

use axum::http::{HeaderMap, StatusCode, header};
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use towpath_core::{Error, ErrorKind, Result};

use crate::{
    keys::{Keys, NoKey},
    problem::Problem,
};

/// Google's keys for OIDC tokens.
const GOOGLE_KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";
/// How Google names itself as the issuer.
const GOOGLE: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// How far the clocks may differ, in seconds.
const LEEWAY: u64 = 60;
/// The longest token that is looked at.
const BYTES: usize = 8 * 1_024;

/// Verifies the OIDC token that Pub/Sub sends with a push request: signature, issuer, audience,
/// expiry, and the verified e-mail of the subscription's service account.
///
/// The issuer's keys are cached for an hour, and for a day while new ones cannot be fetched. They
/// are fetched again, at most every 30 s, when a token names one that is not known.
pub struct TokenVerifier {
    audience: String,
    email: String,
    issuers: Vec<String>,
    keys: Keys,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    email: String,
    #[serde(default)]
    email_verified: bool,
}

impl TokenVerifier {
    /// Tokens of Google, for `audience`, of the service account `email`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for an empty audience or e-mail.
    pub fn google(audience: impl Into<String>, email: impl Into<String>) -> Result<Self> {
        Self::new(audience, email, Keys::at(GOOGLE_KEYS.to_owned()))
    }

    /// As [`google`](Self::google), with the keys of another place.
    ///
    /// # Errors
    ///
    /// As [`google`](Self::google).
    pub fn with_keys_at(
        audience: impl Into<String>,
        email: impl Into<String>,
        url: impl Into<String>,
    ) -> Result<Self> {
        Self::new(audience, email, Keys::at(url.into()))
    }

    /// As [`google`](Self::google), with the keys of a JSON Web Key Set, for tests.
    ///
    /// # Errors
    ///
    /// As [`google`](Self::google), and for a set without usable keys.
    pub fn with_keys(
        audience: impl Into<String>,
        email: impl Into<String>,
        json: &str,
    ) -> Result<Self> {
        Self::new(audience, email, Keys::fixed(json))
    }

    fn new(
        audience: impl Into<String>,
        email: impl Into<String>,
        keys: std::result::Result<Keys, String>,
    ) -> Result<Self> {
        let invalid = |text: String| Error::new(ErrorKind::InvalidConfig, text);
        let (audience, email) = (audience.into(), email.into());
        if audience.is_empty() {
            return Err(invalid(
                "audience: is empty; use the audience of the push subscription".into(),
            ));
        }
        if email.is_empty() {
            return Err(invalid(
                "email: is empty; use the service account of the push subscription".into(),
            ));
        }
        Ok(Self {
            audience,
            email,
            issuers: GOOGLE.map(str::to_owned).to_vec(),
            keys: keys.map_err(|error| invalid(format!("keys: {error}")))?,
        })
    }

    /// Whether the request is of the subscription's service account.
    pub(crate) async fn verify(&self, headers: &HeaderMap) -> std::result::Result<(), Problem> {
        let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty() && token.len() <= BYTES)
            .ok_or_else(|| unauthorized("there is no bearer token"))?;
        // `alg: none` and other unknown names do not parse.
        let token_header =
            decode_header(token).map_err(|_| unauthorized("the token is no signed JWT"))?;
        let id = token_header
            .kid
            .ok_or_else(|| unauthorized("the token names no key"))?;
        let (algorithm, key) = self.keys.get(&id).await.map_err(|error| match error {
            NoKey::Unknown => unauthorized("the token is of an unknown key"),
            NoKey::Unavailable(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the keys of the issuer cannot be had now",
            ),
        })?;
        // The algorithm is the key's, never the token's own.
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&self.issuers);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        let claims = decode::<Claims>(token, &key, &validation)
            .map_err(|error| {
                tracing::warn!(%error, "a push request with an invalid token is refused");
                unauthorized("the token is not valid here")
            })?
            .claims;
        if !claims.email_verified || claims.email != self.email {
            tracing::warn!(email = ?claims.email, "a push request of another account is refused");
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "the token is not of the subscription's service account",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("audience", &self.audience)
            .field("email", &self.email)
            .field("issuers", &self.issuers)
            .field("keys", &self.keys)
            .finish()
    }
}
