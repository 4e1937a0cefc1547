//! What is sent for one message.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Map, Value};
use towpath_core::{Attempt, Failure};
use url::Url;

use crate::{
    Auth, Body, Destination, Secret,
    template::{Template, Values, unusable},
    url_template::{Rules, UrlTemplate},
};

/// How requests of one destination are made; everything is checked already.
#[derive(Debug)]
pub(crate) struct RequestTemplate {
    method: Method,
    url: UrlTemplate,
    headers: Vec<(HeaderName, Template)>,
    idempotency_header: Option<HeaderName>,
    body: BodyTemplate,
}

#[derive(Debug)]
enum BodyTemplate {
    PassThrough,
    Empty,
    Json(JsonTemplate),
    Form(Vec<(String, Template)>),
}

#[derive(Debug)]
enum JsonTemplate {
    Constant(Value),
    Text(Template),
    Array(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}

/// One request, which can be sent more than once. Secrets are not in it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What the client or the updater sets itself.
const RESERVED: [HeaderName; 5] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
];

impl RequestTemplate {
    /// Checks the templates; the error names the field.
    pub(crate) fn parse(config: &Destination) -> Result<Self, String> {
        let method = method(&config.method)?;
        let idempotency_header = match config.idempotency_header.as_str() {
            "" => None,
            name => Some(own_header(name).map_err(|error| format!("idempotency_header: {error}"))?),
        };
        let mut headers = Vec::new();
        for (name, value) in &config.headers {
            let at = |error: String| format!("headers: {name:?}: {error}");
            let name = own_header(name).map_err(at)?;
            if Some(&name) == idempotency_header.as_ref() {
                return Err(at(
                    "carries the idempotency key; see idempotency_header".into()
                ));
            }
            if auth_headers(&config.auth).contains(&name.as_str().to_owned()) {
                return Err(at("is set by auth too; keep one".into()));
            }
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(at("is there twice, in upper and lower case".into()));
            }
            let template = Template::parse(value).map_err(at)?;
            headers.push((name, template));
        }
        let body = match &config.body {
            Body::PassThrough => BodyTemplate::PassThrough,
            Body::Empty => BodyTemplate::Empty,
            Body::Json(value) => BodyTemplate::Json(JsonTemplate::parse(value, "body.json")?),
            Body::Form(fields) => BodyTemplate::Form(
                fields
                    .iter()
                    .map(|(name, text)| match Template::parse(text) {
                        Ok(template) => Ok((name.clone(), template)),
                        Err(error) => Err(format!("body.form: {name:?}: {error}")),
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Self {
            method,
            url: UrlTemplate::parse(&config.url, Rules::of(config))?,
            headers,
            idempotency_header,
            body,
        })
    }

    /// The request for one message.
    pub(crate) fn fill(&self, attempt: &Attempt) -> Result<Request, Failure> {
        let values = Values::new(attempt);
        let message = &attempt.envelope().message;
        let url = self.url.fill(&values)?;
        let mut headers = HeaderMap::new();
        for name in ["traceparent", "tracestate"] {
            // One that is not legal is no loss: a trace ends here.
            if let Some(Ok(value)) = message
                .attributes()
                .get(name)
                .map(str::parse::<HeaderValue>)
            {
                headers.insert(name, value);
            }
        }
        let (body, content_type) = self.body.fill(&values, attempt)?;
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        for (name, template) in &self.headers {
            let value = template.fill(&values)?;
            let value = HeaderValue::from_str(&value).map_err(|_| {
                unusable(format!(
                    "the value for the header {name} has characters that no header carries"
                ))
            })?;
            headers.insert(name, value);
        }
        if let Some(name) = &self.idempotency_header {
            let key = message.idempotency_key().to_string();
            headers.insert(
                name,
                HeaderValue::from_str(&key).map_err(|_| unusable("the key is no text".into()))?,
            );
        }
        Ok(Request {
            method: self.method.clone(),
            url,
            headers,
            body,
        })
    }
}

impl BodyTemplate {
    fn fill(
        &self,
        values: &Values<'_>,
        attempt: &Attempt,
    ) -> Result<(Bytes, Option<HeaderValue>), Failure> {
        let message = &attempt.envelope().message;
        Ok(match self {
            Self::Empty => (Bytes::new(), None),
            Self::PassThrough => {
                let named = message.attributes().get("content-type");
                let content_type = named
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(HeaderValue::from_static("application/octet-stream"));
                (message.body().clone(), Some(content_type))
            }
            Self::Json(template) => {
                let json = template.fill(values)?.unwrap_or(Value::Null);
                (
                    json.to_string().into(),
                    Some(HeaderValue::from_static("application/json")),
                )
            }
            Self::Form(fields) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, template) in fields {
                    match template.single() {
                        Some(placeholder) => {
                            if let Some(value) = values.text(placeholder)? {
                                form.append_pair(name, &value);
                            }
                        }
                        None => drop(form.append_pair(name, &template.fill(values)?)),
                    }
                }
                (
                    form.finish().into(),
                    Some(HeaderValue::from_static(
                        "application/x-www-form-urlencoded",
                    )),
                )
            }
        })
    }
}

impl JsonTemplate {
    fn parse(value: &Value, place: &str) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => {
                Self::Text(Template::parse(text).map_err(|error| format!("{place}: {error}"))?)
            }
            Value::Array(items) => Self::Array(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| Self::parse(item, &format!("{place}.{i}")))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, field)| {
                        Self::parse(field, &format!("{place}.{name}"))
                            .map(|template| (name.clone(), template))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            other => Self::Constant(other.clone()),
        })
    }

    /// `None` for a field that is left out.
    fn fill(&self, values: &Values<'_>) -> Result<Option<Value>, Failure> {
        Ok(match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Text(template) => match template.single() {
                Some(placeholder) => values.json(placeholder)?,
                None => Some(Value::String(template.fill(values)?)),
            },
            Self::Array(items) => {
                let mut filled = Vec::with_capacity(items.len());
                for item in items {
                    filled.extend(item.fill(values)?);
                }
                Some(Value::Array(filled))
            }
            Self::Object(fields) => {
                let mut filled = Map::new();
                for (name, field) in fields {
                    if let Some(value) = field.fill(values)? {
                        filled.insert(name.clone(), value);
                    }
                }
                Some(Value::Object(filled))
            }
        })
    }
}

fn method(text: &str) -> Result<Method, String> {
    match text.to_ascii_uppercase().as_str() {
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "GET" => Ok(Method::GET),
        _ => Err(format!(
            "method: {text:?} is not one of POST, PUT, PATCH, DELETE, GET"
        )),
    }
}

/// A header that the configuration may set.
fn own_header(name: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(name).map_err(|_| "is no legal name of a header".to_owned())?;
    if RESERVED.contains(&name) {
        return Err("is set by the client".into());
    }
    Ok(name)
}

fn auth_headers(auth: &Auth) -> Vec<String> {
    match auth {
        Auth::None => Vec::new(),
        Auth::Bearer(_) | Auth::Basic { .. } => vec!["authorization".into()],
        Auth::Header(headers) => headers
            .keys()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
    }
}

/// The secrets of a destination as they are sent, and as text for the redaction of answers.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    headers: HeaderMap,
    secrets: Vec<String>,
}

impl Credentials {
    /// Reads the secrets; the error names the place and never the value.
    pub(crate) fn read(auth: &Auth) -> Result<Self, String> {
        let at = |error: String| format!("auth: {error}");
        let mut credentials = Self::default();
        match auth {
            Auth::None => {}
            Auth::Bearer(secret) => {
                let token = text(secret).map_err(at)?;
                credentials.add(header::AUTHORIZATION, &format!("Bearer {token}"), token)?;
            }
            Auth::Basic { user, password } => {
                if user.contains(':') {
                    return Err("auth: the user of basic authentication has no colon".into());
                }
                let password = text(password).map_err(at)?;
                let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
                credentials.secrets.push(password);
                credentials.add(header::AUTHORIZATION, &format!("Basic {encoded}"), encoded)?;
            }
            Auth::Header(headers) => {
                for (name, secret) in headers {
                    let at = |error: String| format!("auth: {name:?}: {error}");
                    let secret = text(secret).map_err(at)?;
                    credentials.add(own_header(name).map_err(at)?, &secret.clone(), secret)?;
                }
            }
        }
        Ok(credentials)
    }

    fn add(&mut self, name: HeaderName, value: &str, secret: String) -> Result<(), String> {
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            format!("auth: the secret for {name} has characters that no header carries")
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self.secrets.push(secret);
        Ok(())
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    pub(crate) fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

fn text(secret: &Secret) -> Result<String, String> {
    let text = secret.read_text();
    text.map_err(|error| error.message().to_owned())
}

/// Shows the names of the headers only.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.headers.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
