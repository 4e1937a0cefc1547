//! How a provider wants to be answered.

use std::fmt;

use axum::response::Response;
use http::StatusCode;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, MapAccess, Visitor},
};
use towpath_core::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::{
    Refusal,
    problem::{Problem, json_response},
    schema::SchemaError,
};

/// Which status each answer has, for one provider.
///
/// | answer | default | Mailgun | |
/// |---|---|---|---|
/// | `accepted` | 202 | 200 | accepted, now or before |
/// | `unsigned` | 401 | 406 | the signature is missing or malformed |
/// | `signature` | 401 | 401 | the signature is wrong or too old |
/// | `replayed` | 401 | 406 | the signature was used for another body |
/// | `not_json` | 400 | 406 | the body is not JSON |
/// | `schema` | 422 | 406 | the body breaks the schema |
/// | `too_large` | 413 | 406 | |
/// | `media_type` | 415 | 406 | |
/// | `too_slow` | 408 | 408 | the body did not arrive, or not in time |
/// | `rate_limited` | 429 | 429 | with `Retry-After` |
/// | `unavailable` | 503 | 503 | it cannot be kept now; with `Retry-After` |
///
/// Mailgun sends again after every status but 200 and 406. What can never succeed is therefore
/// answered with 406; a wrong signature is not, so that a wrong key *here* loses nothing.
///
/// In a configuration, a profile is a name (`"default"`, `"mailgun"`), or a table that changes one:
///
/// ```
/// use towpath_webhook::{Answer, Profile};
///
/// # #[derive(serde::Deserialize)] struct Source { profile: Profile }
/// let source: Source = toml::from_str(r#"profile = { like = "mailgun", schema = 200 }"#).unwrap();
/// assert_eq!(source.profile.status(Answer::Accepted), 200);
/// assert_eq!(source.profile.status(Answer::Schema), 200);
/// assert_eq!(source.profile.status(Answer::Unavailable), 503);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    statuses: [StatusCode; ANSWERS.len()],
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// Accepted, now or before.
    Accepted,
    /// The signature is missing or malformed.
    Unsigned,
    /// The signature is wrong or too old.
    Signature,
    /// The signature was used for another body.
    Replayed,
    /// The body is not JSON, or nested too deeply.
    NotJson,
    /// The body breaks the schema.
    Schema,
    /// The body is too large.
    TooLarge,
    /// The media type is not accepted.
    MediaType,
    /// The body did not arrive, or not in time.
    TooSlow,
    /// Too many requests.
    RateLimited,
    /// It cannot be kept now.
    Unavailable,
}

const ANSWERS: [Answer; 11] = [
    Answer::Accepted,
    Answer::Unsigned,
    Answer::Signature,
    Answer::Replayed,
    Answer::NotJson,
    Answer::Schema,
    Answer::TooLarge,
    Answer::MediaType,
    Answer::TooSlow,
    Answer::RateLimited,
    Answer::Unavailable,
];

impl Profile {
    /// 202 for what is accepted, and the usual statuses for what is not.
    pub fn standard() -> Self {
        let status = |answer| match answer {
            Answer::Accepted => StatusCode::ACCEPTED,
            Answer::Unsigned | Answer::Signature | Answer::Replayed => StatusCode::UNAUTHORIZED,
            Answer::NotJson => StatusCode::BAD_REQUEST,
            Answer::Schema => StatusCode::UNPROCESSABLE_ENTITY,
            Answer::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Answer::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Answer::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Answer::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Answer::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            statuses: ANSWERS.map(status),
        }
    }

    /// Mailgun's: 200 is success, 406 is never sent again, everything else is.
    ///
    /// <https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-retries>
    pub fn mailgun() -> Self {
        let mut profile = Self::standard();
        profile.set(Answer::Accepted, StatusCode::OK);
        for answer in [
            Answer::Unsigned,
            Answer::Replayed,
            Answer::NotJson,
            Answer::Schema,
            Answer::TooLarge,
            Answer::MediaType,
        ] {
            profile.set(answer, StatusCode::NOT_ACCEPTABLE);
        }
        profile
    }

    /// Changes the status of one answer.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` when what is accepted would be answered with a failure; when what must be
    /// sent again (`too_slow`, `rate_limited`, `unavailable`) would be answered with a success; or
    /// for 1xx and 3xx.
    pub fn with_status(mut self, answer: Answer, status: StatusCode) -> Result<Self> {
        let is_failure = status.is_client_error() || status.is_server_error();
        let (is_legal, legal) = match answer {
            Answer::Accepted => (status.is_success(), "2xx"),
            Answer::TooSlow | Answer::RateLimited | Answer::Unavailable => {
                (is_failure, "4xx or 5xx, or the event is lost")
            }
            _ => (is_failure || status.is_success(), "2xx, 4xx or 5xx"),
        };
        if !is_legal {
            let message = format!("{answer:?} cannot be answered with {status}; choose {legal}");
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        self.set(answer, status);
        Ok(self)
    }

    fn set(&mut self, answer: Answer, status: StatusCode) {
        self.statuses[answer as usize] = status;
    }

    /// The status of an answer.
    pub fn status(&self, answer: Answer) -> StatusCode {
        self.statuses[answer as usize]
    }

    /// The answer to a request that was accepted with this id, now or before:
    /// `{"id": "..", "status": "accepted"}`.
    pub fn accepted(&self, id: Uuid) -> Response {
        #[derive(Serialize)]
        struct Accepted {
            id: Uuid,
            status: &'static str,
        }
        let body = Accepted {
            id,
            status: "accepted",
        };
        json_response(self.status(Answer::Accepted), "application/json", &body)
    }

    /// The answer to a request that was not accepted.
    pub fn refused(&self, refusal: &Refusal) -> Problem {
        let problem = Problem::new(
            self.status(refusal.answer()),
            refusal.as_str(),
            refusal.to_string(),
        );
        match refusal {
            Refusal::Schema(SchemaError::Invalid(errors)) => problem.with_errors(errors.clone()),
            Refusal::RateLimited(after) | Refusal::Unavailable(after) => {
                problem.with_retry_after(*after)
            }
            _ => problem,
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::standard()),
            "mailgun" => Some(Self::mailgun()),
            _ => None,
        }
    }
}

impl Default for Profile {
    /// [`standard`](Self::standard).
    fn default() -> Self {
        Self::standard()
    }
}

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ProfileVisitor)
    }
}

struct ProfileVisitor;

impl<'de> Visitor<'de> for ProfileVisitor {
    type Value = Profile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "\"default\", \"mailgun\", or a table like { like = \"mailgun\", schema = 200 }",
        )
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Profile, E> {
        Profile::named(name).ok_or_else(|| {
            E::custom(format!(
                "there is no profile {name:?} (available: default, mailgun)"
            ))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Profile, A::Error> {
        let mut base = Profile::standard();
        let mut changes = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "like" {
                base = ProfileVisitor.visit_str(&map.next_value::<String>()?)?;
                continue;
            }
            let answer = Answer::deserialize(key.as_str().into_deserializer())?;
            let number: u16 = map.next_value()?;
            let status = StatusCode::from_u16(number)
                .map_err(|_| de::Error::custom(format!("{number} is not an HTTP status")))?;
            changes.push((answer, status));
        }
        changes
            .into_iter()
            .try_fold(base, |profile, (answer, status)| {
                let changed = profile.with_status(answer, status);
                changed.map_err(|error| de::Error::custom(error.message()))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        BodyError,
        problem::FieldError,
        signature::{Place, SignatureError},
    };

    async fn json(response: Response) -> Value {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    fn refusals() -> [(Refusal, u16, u16); 14] {
        let second = Duration::from_secs(1);
        let place = || Place::Body;
        [
            (BodyError::TooLarge(5).into(), 413, 406),
            (BodyError::MediaType(vec![]).into(), 415, 406),
            (BodyError::TooSlow(second).into(), 408, 408),
            (BodyError::Broken.into(), 408, 408),
            (SignatureError::Missing(place()).into(), 401, 406),
            (SignatureError::Duplicate(place()).into(), 401, 406),
            (SignatureError::Mismatch(place()).into(), 401, 401),
            (
                SignatureError::Expired {
                    age: second,
                    tolerance: second,
                }
                .into(),
                401,
                401,
            ),
            (Refusal::Replayed, 401, 406),
            (SchemaError::NotJson { line: 1, column: 1 }.into(), 400, 406),
            (SchemaError::TooDeep(64).into(), 400, 406),
            (
                SchemaError::Invalid(vec![FieldError::new("/id", "it is wrong")]).into(),
                422,
                406,
            ),
            (Refusal::RateLimited(second), 429, 429),
            (Refusal::Unavailable(second), 503, 503),
        ]
    }

    #[tokio::test]
    async fn accepted_is_202_with_the_id_or_what_the_provider_wants() {
        let id = Uuid::from_u128(7);
        let response = Profile::default().accepted(id);
        assert_eq!(response.status(), 202);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = json!({ "id": "00000000-0000-0000-0000-000000000007", "status": "accepted" });
        assert_eq!(json(response).await, body);
        assert_eq!(Profile::mailgun().accepted(id).status(), 200);
        let silent = Profile::standard().with_status(Answer::Accepted, StatusCode::NO_CONTENT);
        let body = silent
            .unwrap()
            .accepted(id)
            .into_body()
            .collect()
            .await
            .unwrap();
        assert!(body.to_bytes().is_empty());
    }

    #[test]
    fn every_refusal_has_its_status_in_every_profile() {
        for (refusal, standard, mailgun) in refusals() {
            assert_eq!(
                Profile::standard().refused(&refusal).status(),
                standard,
                "{refusal:?}"
            );
            assert_eq!(
                Profile::mailgun().refused(&refusal).status(),
                mailgun,
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn the_statuses_stand_at_their_answers() {
        for (i, answer) in ANSWERS.into_iter().enumerate() {
            assert_eq!(answer as usize, i);
        }
    }

    #[tokio::test]
    async fn a_refusal_says_what_where_and_when_to_come_again() {
        let errors = vec![FieldError::new(
            "/event-data/id",
            "it is not of type \"string\"",
        )];
        let refusal = Refusal::Schema(SchemaError::Invalid(errors));
        let response = Profile::mailgun().refused(&refusal).into_response();
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(
            json(response).await,
            json!({
                "title": "Not Acceptable",
                "status": 406,
                "code": "schema",
                "detail": "the body breaks the schema",
                "errors": [
                    { "pointer": "/event-data/id", "detail": "it is not of type \"string\"" },
                ],
            })
        );
        for refusal in [Refusal::RateLimited, Refusal::Unavailable] {
            let problem = Profile::standard().refused(&refusal(Duration::from_secs(17)));
            assert_eq!(problem.into_response().headers()["retry-after"], "17");
        }
    }

    #[derive(Debug, Deserialize)]
    struct Source {
        profile: Profile,
    }

    fn parse(text: &str) -> Result<Profile, String> {
        let source: Source = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Ok(source.profile)
    }

    #[test]
    fn a_profile_is_a_name_or_a_table_that_changes_one() {
        assert_eq!(parse("profile = 'mailgun'"), Ok(Profile::mailgun()));
        assert_eq!(parse("profile = 'default'"), Ok(Profile::standard()));
        assert_eq!(parse("profile = {}"), Ok(Profile::standard()));
        let changed = parse("[profile]\nsignature = 403\nlike = 'mailgun'").unwrap();
        assert_eq!(changed.status(Answer::Signature), 403);
        assert_eq!(changed.status(Answer::Schema), 406);
    }

    #[test]
    fn a_profile_that_would_lose_events_is_refused() {
        for (text, why) in [
            ("profile = 'mailgum'", "available: default, mailgun"),
            ("profile = { like = 'x' }", "available: default, mailgun"),
            (
                "profile = { shcema = 406 }",
                "unknown variant `shcema`, expected one of `accepted`",
            ),
            ("profile = { accepted = 500 }", "choose 2xx"),
            ("profile = { accepted = 302 }", "choose 2xx"),
            ("profile = { unavailable = 200 }", "or the event is lost"),
            ("profile = { rate_limited = 204 }", "or the event is lost"),
            ("profile = { schema = 301 }", "choose 2xx, 4xx or 5xx"),
            ("profile = { schema = 1000 }", "1000 is not an HTTP status"),
            ("profile = 17", "\"default\", \"mailgun\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
