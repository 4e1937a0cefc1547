//! The harness for backends whose queues have URLs.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use towpath_core::{Error, ErrorKind, QueueConfig, QueueSpec, Registry, Result};

use crate::{Harness, Timing, proxy::Proxies};

/// A [`Harness`] made of a registry and a URL with `{name}` in it.
///
/// ```
/// use towpath_conformance::{Timing, UrlHarness};
/// use towpath_core::Registry;
/// use towpath_memory::MemoryBackend;
///
/// let backend = MemoryBackend::new();
/// let harness = UrlHarness::new(
///     "memory as SQS",
///     move || Registry::new().with(backend.clone()),
///     "memory://{name}?profile=sqs",
/// )
/// .with_timing(Timing::paused())
/// .with_missing_option("create", "false");
/// # let _ = harness;
/// ```
#[derive(Clone)]
pub struct UrlHarness {
    name: String,
    registry: Arc<dyn Fn() -> Registry + Send + Sync>,
    url: String,
    timing: Timing,
    prefix: String,
    suffix: String,
    spec: QueueSpec,
    missing: Vec<(String, String)>,
    denied: Vec<(String, String)>,
    endpoint_option: Option<String>,
    proxies: Arc<Proxies>,
}

impl UrlHarness {
    /// A harness for the queues at `url`, in which every `{name}` stands for the name of a queue.
    ///
    /// `registry` is called once per case; what it returns must not share connections with what it
    /// returned before. The timing is that of [local](Timing::local) servers unless set.
    pub fn new(
        name: impl Into<String>,
        registry: impl Fn() -> Registry + Send + Sync + 'static,
        url: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            registry: Arc::new(registry),
            url: url.into(),
            timing: Timing::local(),
            prefix: "towpath-ct".to_owned(),
            suffix: String::new(),
            spec: QueueSpec::new(),
            missing: Vec::new(),
            denied: Vec::new(),
            endpoint_option: None,
            proxies: Arc::default(),
        }
    }

    /// Sets how time passes.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Sets how the names of queues begin: at most 24 of `A-Za-z0-9-`, and a letter first.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how the names of queues end, for instance `.fifo`.
    #[must_use]
    pub fn with_suffix(mut self, suffix: impl Into<String>) -> Self {
        self.suffix = suffix.into();
        self
    }

    /// Sets what all queues are created with, for instance ordering.
    #[must_use]
    pub fn with_spec(mut self, spec: QueueSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Sets an option with which opening a queue does not create it, where opening does.
    #[must_use]
    pub fn with_missing_option(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        self.missing.push((name.into(), value.into()));
        self
    }

    /// Sets an option that brings credentials which are not accepted.
    #[must_use]
    pub fn with_denied_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.denied.push((name.into(), value.into()));
        self
    }

    /// Names the option of the URL that holds the address of the server, as `http://host:port`.
    ///
    /// With it, cases cut connections (by a proxy in between) and meet an endpoint where nobody
    /// answers.
    #[must_use]
    pub fn with_endpoint_option(mut self, name: impl Into<String>) -> Self {
        self.endpoint_option = Some(name.into());
        self
    }

    fn with_options(&self, name: &str, options: &[(String, String)]) -> Result<QueueConfig> {
        let queue = self.queue(name)?;
        Ok(options
            .iter()
            .fold(queue, |queue, (name, value)| queue.with_option(name, value)))
    }
}

#[async_trait]
impl Harness for UrlHarness {
    fn name(&self) -> &str {
        &self.name
    }

    fn timing(&self) -> &Timing {
        &self.timing
    }

    fn registry(&self) -> Registry {
        (self.registry)()
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn suffix(&self) -> &str {
        &self.suffix
    }

    fn queue(&self, name: &str) -> Result<QueueConfig> {
        if !self.url.contains("{name}") {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the URL {:?} has no {{name}} in it; the cases create many queues",
                    self.url
                ),
            ));
        }
        QueueConfig::parse(&self.url.replace("{name}", name))
    }

    fn spec(&self) -> QueueSpec {
        self.spec.clone()
    }

    fn missing(&self, name: &str) -> Result<QueueConfig> {
        self.with_options(name, &self.missing)
    }

    fn unreachable(&self, name: &str) -> Option<QueueConfig> {
        let option = self.endpoint_option.as_ref()?;
        let queue = self.queue(name).ok()?;
        // Nobody listens on the discard port of this machine.
        Some(queue.with_option(option, "http://127.0.0.1:9"))
    }

    fn denied(&self, name: &str) -> Option<QueueConfig> {
        if self.denied.is_empty() {
            return None;
        }
        self.with_options(name, &self.denied).ok()
    }

    async fn cuttable(&self, queue: &QueueConfig) -> Result<QueueConfig> {
        let Some(option) = &self.endpoint_option else {
            return Err(super::harness::cannot_cut());
        };
        let endpoint = queue.option(option).unwrap_or_default().to_owned();
        let proxy = self.proxies.open(queue.target(), &endpoint).await?;
        Ok(queue.clone().with_option(option, format!("http://{proxy}")))
    }

    async fn cut(&self, queue: &QueueConfig) -> Result<()> {
        let endpoint = self
            .endpoint_option
            .as_ref()
            .and_then(|option| queue.option(option))
            .unwrap_or_default();
        self.proxies.cut(endpoint)
    }
}

impl fmt::Debug for UrlHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlHarness")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}
