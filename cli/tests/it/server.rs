//! The servers that the environment names.

use std::env;

use libtest_mimic::{Failed, Trial};

use crate::Outcome;

/// Set where a missing server is a failure.
const REQUIRED: &str = "CONFORMANCE_REQUIRED";

/// Which cloud's protocol a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    Sqs,
    PubSub,
}

/// A server of a cloud's protocol on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) cloud: Cloud,
    variable: &'static str,
    pub(crate) endpoint: String,
}

pub(crate) fn all() -> Vec<Server> {
    [
        ("fauxqs", Cloud::Sqs, "TOWPATH_FAUXQS_ENDPOINT"),
        ("elasticmq", Cloud::Sqs, "TOWPATH_ELASTICMQ_ENDPOINT"),
        ("google", Cloud::PubSub, "TOWPATH_PUBSUB_EMULATOR_ENDPOINT"),
        ("pstest", Cloud::PubSub, "TOWPATH_PSTEST_ENDPOINT"),
    ]
    .map(|(name, cloud, variable)| Server {
        name,
        cloud,
        variable,
        endpoint: env::var(variable).unwrap_or_default(),
    })
    .to_vec()
}

/// The server of the recorded session.
pub(crate) fn fauxqs() -> Server {
    all().swap_remove(0)
}

/// A server of SQS with one of Pub/Sub, so that each is in a pair.
pub(crate) fn pairs() -> Vec<(Server, Server)> {
    let of = |cloud| {
        all()
            .into_iter()
            .filter(move |server| server.cloud == cloud)
    };
    of(Cloud::Sqs).zip(of(Cloud::PubSub)).collect()
}

impl Server {
    pub(crate) fn trial(&self, group: &str, name: &str, test: fn(&Self) -> Outcome) -> Trial {
        let server = self.clone();
        let name = format!("{}::{group}::{name}", self.name);
        trial(name, &[self], move || test(&server))
    }

    /// The URL of the queue `name`, with more options (`a=1&b=2`).
    pub(crate) fn url(&self, name: &str, options: &str) -> String {
        let endpoint = &self.endpoint;
        let options = if options.is_empty() {
            String::new()
        } else {
            format!("&{options}")
        };
        match self.cloud {
            Cloud::Sqs => format!("sqs://{name}?region=us-east-1&endpoint={endpoint}{options}"),
            Cloud::PubSub => format!("pubsub://towpath-cli/{name}?endpoint={endpoint}{options}"),
        }
    }
}

pub(crate) fn trial_of_two(
    sqs: &Server,
    pubsub: &Server,
    group: &str,
    name: &str,
    test: fn(&Server, &Server) -> Outcome,
) -> Trial {
    let (one, two) = (sqs.clone(), pubsub.clone());
    let name = format!("{}_{}::{group}::{name}", sqs.name, pubsub.name);
    trial(name, &[sqs, pubsub], move || test(&one, &two))
}

fn trial(
    name: String,
    servers: &[&Server],
    test: impl FnOnce() -> Outcome + Send + 'static,
) -> Trial {
    let Some(missing) = servers.iter().find(|server| server.endpoint.is_empty()) else {
        return Trial::test(name, move || {
            test().map_err(|error| Failed::from(error.to_string()))
        });
    };
    let variable = missing.variable;
    if env::var(REQUIRED).is_ok_and(|value| value == "1") {
        let why = format!("{variable} is not set, and {REQUIRED} is");
        return Trial::test(name, move || Err(Failed::from(why)));
    }
    Trial::test(name, || Ok(()))
        .with_kind(format!("{variable} is not set"))
        .with_ignored_flag(true)
}

/// A name that no other test uses.
pub(crate) fn unique(what: &str) -> String {
    format!("cli-{what}-{:012x}", fastrand::u64(..1 << 48))
}
