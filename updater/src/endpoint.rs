//! One destination at work.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use reqwest::{Client, header, redirect};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};
use towpath_core::{Attempt, Failure, FailureClass, Outcome};

use crate::{
    Auth, Breaker, BreakerState, Class, Destination, DestinationState, Pass,
    address::Resolver,
    alarm::AlarmCell,
    answer::{Answer, Health, Meaning, READ},
    history::History,
    pace::Pace,
    probe::Probe,
    request::{Credentials, Request, RequestTemplate},
    retry_after,
    tally::Tally,
};

/// A destination with its connections, limits and breaker.
#[derive(Debug)]
pub(crate) struct Endpoint {
    name: String,
    config: Destination,
    template: RequestTemplate,
    probe: Probe,
    client: Client,
    credentials: RwLock<Arc<Credentials>>,
    breaker: Breaker,
    places: Semaphore,
    pace: Option<Pace>,
    alarm: AlarmCell,
    history: History,
    tally: Tally,
    last_failure: Mutex<Option<String>>,
}

impl Endpoint {
    /// Checks everything that can be checked without a message. The error names the field.
    pub(crate) fn new(name: &str, config: Destination) -> Result<Self, String> {
        let template = RequestTemplate::parse(&config)?;
        let probe = Probe::new(&config)?;
        config.breaker.check()?;
        if config.timeout.is_zero() {
            return Err("timeout: must be longer than zero".into());
        }
        if !(1..=Semaphore::MAX_PERMITS).contains(&config.concurrency) {
            return Err("concurrency: must be at least 1".into());
        }
        if let Some(status) = config.classes.keys().find(|s| !(100..600).contains(*s)) {
            return Err(format!("classes: {status} is no HTTP status"));
        }
        let client = client(&config).map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            template,
            probe,
            client,
            credentials: RwLock::new(Arc::new(Credentials::read(&config.auth)?)),
            breaker: Breaker::new(config.breaker.clone()),
            places: Semaphore::new(config.concurrency),
            pace: config.rate.as_ref().map(Pace::new).transpose()?,
            alarm: AlarmCell::default(),
            history: History::default(),
            tally: Tally::new(name),
            last_failure: Mutex::default(),
            config,
        })
    }

    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(crate) fn state(&self) -> DestinationState {
        let tally = &self.tally;
        DestinationState {
            breaker: self.breaker.state(),
            cool_down_left: self.breaker.cool_down_left(),
            alarm: self.alarm.get(),
            in_flight: tally.in_flight(),
            waiting: self.breaker.waiting(),
            succeeded: tally.acked.get(),
            retried: tally.retried.get(),
            released: tally.released.get(),
            dead_lettered: tally.dead_lettered.get(),
            last_failure: self.last_failure().clone(),
        }
    }

    /// Writes one message, and waits for up to `max_wait` to be let.
    pub(crate) async fn deliver(&self, attempt: &Attempt, max_wait: Duration) -> Outcome {
        let request = match self.template.fill(attempt) {
            Ok(request) => request,
            Err(failure) => {
                self.tally.dead_lettered.add();
                return named(&self.name, failure).into();
            }
        };
        let deadline = Instant::now().checked_add(max_wait);
        loop {
            let entered = match deadline {
                Some(deadline) => timeout_at(deadline, self.enter()).await.ok(),
                None => Some(self.enter().await),
            };
            let Some((place, pass)) = entered else {
                return self.give_back(max_wait);
            };
            let is_try = pass.is_try();
            if is_try {
                self.tally.breaker(BreakerState::HalfOpen);
            }
            if is_try && !self.is_well().await {
                self.settle(pass, Health::Unwell);
                continue;
            }
            let credentials = self.credentials();
            let answer = self.call(&request, &credentials).await;
            let meaning = Meaning::of(&answer, |status| self.class(status));
            self.settle(pass, meaning.health);
            drop(place);
            // What fails the call that decides says little about its message, which waits on.
            if is_try && meaning.class == Class::Transient && meaning.health != Health::Well {
                self.note_failure(&answer, &credentials);
                continue;
            }
            return self.outcome(attempt, &answer, meaning, &credentials);
        }
    }

    /// Resolves when messages should come again. Asks the probe, where there is one.
    pub(crate) async fn resumed(&self) {
        loop {
            self.breaker.closed().await;
            if self.probe == Probe::None || self.breaker.state() == BreakerState::Closed {
                return;
            }
            if let Some(pass) = self.breaker.try_enter() {
                if self.is_well().await {
                    return;
                }
                self.settle(pass, Health::Unwell);
            }
        }
    }

    /// A place, a pass and a moment, in this order: who waits for the breaker takes turns with who
    /// waits for a place, and the rate holds after the breaker closed, too.
    async fn enter(&self) -> (SemaphorePermit<'_>, Pass) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = self.places.acquire().await else {
                continue;
            };
            let pass = self.breaker.enter().await;
            if let Some(pace) = &self.pace {
                pace.next().await;
            }
            if pass.is_current() {
                return (place, pass);
            }
        }
    }

    async fn call(&self, request: &Request, credentials: &Credentials) -> Answer {
        let _running = self.tally.run();
        let mut call = self
            .client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .headers(credentials.headers());
        if !request.body.is_empty() {
            call = call.body(request.body.clone());
        }
        let begun = Instant::now();
        let answer = match timeout(self.config.timeout, self.exchange(call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::broken(error),
            Err(_) => Answer::Timeout(self.config.timeout),
        };
        self.tally.request(answer.label(), begun.elapsed());
        answer
    }

    async fn exchange(&self, call: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let mut response = call.send().await?;
        let status = response.status();
        let header = |name| response.headers().get(name)?.to_str().ok();
        let most = self.config.max_retry_after;
        let retry_after = header(header::RETRY_AFTER)
            .and_then(|value| retry_after::parse(value, SystemTime::now(), most));
        let location = header(header::LOCATION)
            .filter(|_| status.is_redirection())
            .map(str::to_owned);
        let mut body = Vec::new();
        while body.len() < READ {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                // Whether it wrote all that it acknowledged is open, so it is asked again.
                Err(error) if status.is_success() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Answer::Status {
            status,
            retry_after,
            location,
            body,
        })
    }

    /// Asks the probe.
    async fn is_well(&self) -> bool {
        let asked = self
            .probe
            .is_well(&self.client, self.credentials().headers());
        timeout(self.config.timeout, asked).await.unwrap_or(false)
    }

    fn class(&self, status: u16) -> Class {
        let own = self.config.classes.get(&status).copied();
        own.unwrap_or_else(|| Class::of(status))
    }

    /// Tells the breaker how the call went, and the log what the breaker made of it.
    fn settle(&self, pass: Pass, health: Health) {
        let before = self.breaker.state();
        match health {
            Health::Well => pass.success(),
            Health::Unwell => pass.failure(),
            Health::Wait(time) => pass.failure_for(time),
        }
        let after = self.breaker.state();
        self.tally.breaker(after);
        if after == BreakerState::Open && before != after {
            tracing::warn!(
                destination = self.name,
                cool_down = ?self.breaker.cool_down_left(),
                "the breaker of a destination is open; its messages wait"
            );
        } else if after == BreakerState::Closed && before != after {
            tracing::info!(
                destination = self.name,
                "the breaker of a destination is closed again"
            );
        }
    }

    fn outcome(
        &self,
        attempt: &Attempt,
        answer: &Answer,
        meaning: Meaning,
        used: &Credentials,
    ) -> Outcome {
        let key = attempt.envelope().message.idempotency_key();
        if meaning.class == Class::Success {
            self.history.forget(key);
            self.alarm.clear(&self.name);
            self.tally.alarm(false);
            self.tally.acked.add();
            return Outcome::Ack;
        }
        let what = self.note_failure(answer, used);
        if meaning.is_alarm {
            if self.refresh_credentials(used) {
                self.tally.retried.add();
                let reason = format!("{what}; the secret has changed since, and is used now");
                return Outcome::Retry {
                    after: None,
                    reason,
                };
            }
            self.alarm.raise(&self.name, &what);
            self.tally.alarm(true);
        }
        if meaning.class == Class::Permanent {
            let reason = with_history(what, &self.history.forget(key));
            self.tally.dead_lettered.add();
            let class = if meaning.is_alarm {
                FailureClass::Other("unauthorized".into())
            } else {
                FailureClass::Permanent
            };
            return Outcome::DeadLetter { class, reason };
        }
        let reason = with_history(what, &self.history.note(key, answer.label()));
        self.tally.retried.add();
        let after = match answer {
            Answer::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        Outcome::Retry { after, reason }
    }

    fn give_back(&self, max_wait: Duration) -> Outcome {
        self.tally.released.add();
        let waited = humantime::format_duration(max_wait);
        let reason = match &*self.last_failure() {
            Some(last) if self.breaker.is_open() => {
                format!("waited {waited} for the breaker of {}: {last}", self.name)
            }
            _ => format!("waited {waited} for a free place at {}", self.name),
        };
        Outcome::Release {
            after: Some(self.breaker.cool_down_left()).filter(|left| !left.is_zero()),
            reason,
        }
    }

    /// Remembers why an attempt failed, and returns it without secrets.
    fn note_failure(&self, answer: &Answer, used: &Credentials) -> String {
        let what = format!("{} {}", self.name, answer.describe(used.secrets()));
        *self.last_failure() = Some(what.clone());
        what
    }

    fn last_failure(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn credentials(&self) -> Arc<Credentials> {
        self.credentials
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the secrets again, and says whether they differ from those that were used. Small
    /// files, and only when a destination refuses.
    fn refresh_credentials(&self, used: &Credentials) -> bool {
        if self.config.auth == Auth::None {
            return false;
        }
        match Credentials::read(&self.config.auth) {
            Ok(fresh) if fresh != *used => {
                *self
                    .credentials
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!(destination = self.name, %error, "cannot read the secrets again");
                false
            }
        }
    }
}

fn client(config: &Destination) -> Result<Client, reqwest::Error> {
    let redirects = config.redirects;
    Client::builder()
        .user_agent(concat!("towpath-updater/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Resolver::system(config.allow_private))
        // A proxy would resolve names itself, behind the check of the addresses.
        .no_proxy()
        .referer(false)
        // The client must not repeat requests on its own, behind the limits.
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(config.concurrency)
        .redirect(redirect::Policy::custom(move |attempt| {
            // 301, 302 and 303 turn a write into a read, and another origin would be sent what is
            // meant for this one. The redirect is then the answer.
            let is_same = attempt
                .previous()
                .first()
                .is_some_and(|first| first.origin() == attempt.url().origin());
            let is_kept = matches!(attempt.status().as_u16(), 307 | 308);
            if is_same && is_kept && attempt.previous().len() <= redirects {
                attempt.follow()
            } else {
                attempt.stop()
            }
        }))
        .build()
}

fn named(name: &str, failure: Failure) -> Failure {
    let reason = format!("{name} cannot be called: {}", failure.reason());
    match failure.class() {
        Some(class) => Failure::permanent_as(class.clone(), reason),
        None => Failure::retry(reason),
    }
}

fn with_history(what: String, before: &str) -> String {
    if before.is_empty() {
        what
    } else {
        format!("{what}; before: {before}")
    }
}
