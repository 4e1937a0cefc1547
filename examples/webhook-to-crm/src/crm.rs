//! A small fake CRM: other people's system at the far end.
//!
//! It applies each `Idempotency-Key` once, writes what it applied to a ledger that survives a
//! restart, and can be told to be slow, down or rate-limiting, and to refuse customers.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{self, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::events::REFUSED_CUSTOMER;

/// The CRM's state. Cloning is cheap; clones share everything.
#[derive(Clone)]
pub struct Crm(Arc<Mutex<Inner>>);

struct Inner {
    file: Option<std::fs::File>,
    applied: BTreeMap<String, Applied>,
    duplicates: u64,
    refused: u64,
    control: Control,
    window: (Instant, u32),
}

/// One line of the ledger: a change that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The `Idempotency-Key` of the request.
    pub key: String,
    /// Whose record was changed.
    pub customer: String,
    /// `activity` or `contact`.
    pub kind: String,
    /// What was written.
    pub body: Value,
}

/// How the CRM behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// How long each request takes.
    pub latency_ms: u64,
    /// Whether every request is answered with 503.
    pub down: bool,
    /// How many requests in a second are accepted; further ones are answered with 429.
    pub rate_limit: Option<u32>,
    /// Customers whose changes are refused with 422.
    pub refuse: BTreeSet<String>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            down: false,
            rate_limit: None,
            refuse: BTreeSet::from([REFUSED_CUSTOMER.to_owned()]),
        }
    }
}

/// What the CRM has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many changes were applied.
    pub applied: usize,
    /// How many requests repeated a change that was applied before.
    pub duplicates: u64,
    /// How many requests were refused with 422.
    pub refused: u64,
    /// The keys of the applied changes.
    pub keys: BTreeSet<String>,
}

impl Crm {
    /// A CRM whose ledger is lost with the process.
    pub fn in_memory() -> Self {
        Self::with(None, BTreeMap::new())
    }

    /// A CRM whose ledger is a file of JSON lines, read again at the start.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or holds something else. A last line that was
    /// torn by a crash is left out; its request was not answered.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut applied = BTreeMap::new();
        let mut whole = 0;
        if path.exists() {
            let mut reader = io::BufReader::new(std::fs::File::open(path)?);
            let mut line = String::new();
            while reader.read_line(&mut line)? > 0 {
                if !line.ends_with('\n') {
                    break;
                }
                let entry: Applied = serde_json::from_str(&line).map_err(|error| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{}: {error}", path.display()),
                    )
                })?;
                applied.insert(entry.key.clone(), entry);
                whole += line.len() as u64;
                line.clear();
            }
        }
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        file.set_len(whole)?;
        Ok(Self::with(Some(file), applied))
    }

    fn with(file: Option<std::fs::File>, applied: BTreeMap<String, Applied>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            file,
            applied,
            duplicates: 0,
            refused: 0,
            control: Control::default(),
            window: (Instant::now(), 0),
        })))
    }

    /// The HTTP interface.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/contacts/{customer}/activities", post(activity))
            .route("/contacts/{customer}", put(contact))
            .route("/ledger", get(ledger))
            .route("/control", get(get_control).put(put_control))
            .with_state(self.clone())
    }

    /// What was seen so far.
    pub fn summary(&self) -> Summary {
        let inner = self.lock();
        Summary {
            applied: inner.applied.len(),
            duplicates: inner.duplicates,
            refused: inner.refused,
            keys: inner.applied.keys().cloned().collect(),
        }
    }

    /// Changes how the CRM behaves.
    pub fn control(&self, control: Control) {
        self.lock().control = control;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn change(
        &self,
        kind: &str,
        customer: String,
        headers: &HeaderMap,
        body: Value,
    ) -> Response {
        let control = self.lock().control.clone();
        tokio::time::sleep(Duration::from_millis(control.latency_ms)).await;
        if control.down {
            return answer(
                StatusCode::SERVICE_UNAVAILABLE,
                "the CRM is down for maintenance",
            );
        }
        if control
            .rate_limit
            .is_some_and(|limit| self.lock().is_too_fast(limit))
        {
            let mut response = answer(StatusCode::TOO_MANY_REQUESTS, "too many requests");
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            return response;
        }
        let Some(key) = headers
            .get("idempotency-key")
            .and_then(|key| key.to_str().ok())
        else {
            return answer(
                StatusCode::BAD_REQUEST,
                "the header Idempotency-Key is missing",
            );
        };
        let mut inner = self.lock();
        if control.refuse.contains(&customer) {
            inner.refused += 1;
            return answer(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this customer has asked not to be contacted",
            );
        }
        if inner.applied.contains_key(key) {
            inner.duplicates += 1;
            return (
                StatusCode::OK,
                Json(json!({ "applied": key, "repeated": true })),
            )
                .into_response();
        }
        let entry = Applied {
            key: key.to_owned(),
            customer,
            kind: kind.to_owned(),
            body,
        };
        match inner.write(&entry) {
            Ok(()) => {
                inner.applied.insert(key.to_owned(), entry);
                (StatusCode::CREATED, Json(json!({ "applied": key }))).into_response()
            }
            Err(error) => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("the ledger: {error}"),
            ),
        }
    }
}

impl Inner {
    fn write(&mut self, entry: &Applied) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(entry)?;
            line.push(b'\n');
            file.write_all(&line)?;
            file.sync_data()?;
        }
        Ok(())
    }

    fn is_too_fast(&mut self, limit: u32) -> bool {
        if self.window.0.elapsed() >= Duration::from_secs(1) {
            self.window = (Instant::now(), 0);
        }
        self.window.1 += 1;
        self.window.1 > limit
    }
}

fn answer(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

async fn activity(
    State(crm): State<Crm>,
    extract::Path(customer): extract::Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    crm.change("activity", customer, &headers, body).await
}

async fn contact(
    State(crm): State<Crm>,
    extract::Path(customer): extract::Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    crm.change("contact", customer, &headers, body).await
}

async fn ledger(State(crm): State<Crm>) -> Json<Summary> {
    Json(crm.summary())
}

async fn get_control(State(crm): State<Crm>) -> Json<Control> {
    Json(crm.lock().control.clone())
}

async fn put_control(State(crm): State<Crm>, Json(control): Json<Control>) -> Json<Control> {
    crm.control(control.clone());
    Json(control)
}
