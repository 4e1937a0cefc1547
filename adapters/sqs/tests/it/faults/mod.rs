//! A hundred thousand messages through a server that fails in every way that the network and SQS
//! know, and that is killed and started again in between. The client is never restarted.
//!
//! Every message's history is judged: nothing accepted is lost, changed or made up; no copy of a
//! message is with two holders at once, nor comes again after its ack; and there are no more
//! copies than sends whose answer was lost.

mod http;
mod notes;
mod own_server;
mod proxy;
mod run;
mod traffic;

use std::{env, sync::Arc, time::Duration};

use libtest_mimic::{Failed, Trial};
use towpath_core::{
    EnsureMode, QueueSpec, Registry,
    driver::{Admin, Backend as _},
};
use towpath_sqs::Sqs;

use crate::{
    Outcome, run_within,
    server::{self, Server, config, missing, unique},
};
use own_server::OwnServer;
use proxy::FaultProxy;
use run::{Plan, Run};

/// How long a run may take: several times of what it takes on two idle cores.
const LIMIT: Duration = Duration::from_secs(1_500);
/// The queues' visibility timeout. What is abandoned, and what an answer took with it that was
/// lost, comes back after it.
const LEASE: Duration = Duration::from_secs(20);

/// Says how many messages a run sends, for a longer or a shorter one.
const MESSAGES: &str = "TOWPATH_FAULT_MESSAGES";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let name = "fauxqs::faults::nothing_is_lost_when_the_server_fails_and_is_killed_twice";
    trials.push(match own_server::command() {
        Ok(Some(command)) => Trial::test(name, move || run_within(LIMIT, killed_server(command))),
        Ok(None) => missing(name.to_owned(), own_server::COMMAND),
        Err(why) => Trial::test(name, move || Err(Failed::from(why))),
    });
    for server in server::all() {
        if server.name == "elasticmq" {
            let name = "elasticmq::faults::nothing_is_lost_when_the_server_fails_and_is_away";
            trials.push(if server.endpoint.is_empty() {
                missing(name.to_owned(), server.variable)
            } else {
                Trial::test(name, move || run_within(LIMIT, absent_server(server)))
            });
        }
    }
    trials
}

/// How many messages a run sends, where [`MESSAGES`] does not say.
fn messages(usual: usize) -> usize {
    let said = env::var(MESSAGES).ok();
    said.and_then(|said| said.parse().ok()).unwrap_or(usual)
}

/// On a server of the test's own that keeps its messages on disk.
async fn killed_server(command: Vec<String>) -> Outcome {
    let mut server = OwnServer::start(command).await?;
    let plan = Plan {
        name: "fauxqs",
        messages: messages(100_000),
        seed: 1,
        lease: LEASE,
    };
    let proxy = FaultProxy::start(&server.endpoint(), plan.seed).await?;
    let queues = Queues::create(&server.endpoint()).await?;
    let run = Run::start(plan, queues.registry(), &proxy, &queues.name).await?;
    for share in [0.3, 0.7] {
        run.until_sent(share).await;
        proxy.cut();
        server.kill().await?;
        run.say("the server is killed");
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.restart().await?;
        proxy.restore(&server.endpoint());
        run.say("the server is started again");
    }
    run.finish(queues.admin(&server.endpoint()).await?).await
}

/// On a server that forgets everything when it ends, which therefore only seems to: its
/// connections are cut, and refused for a while.
async fn absent_server(server: Server) -> Outcome {
    let plan = Plan {
        name: "elasticmq",
        messages: messages(20_000),
        seed: 2,
        lease: LEASE,
    };
    let proxy = FaultProxy::start(&server.endpoint, plan.seed).await?;
    let queues = Queues::create(&server.endpoint).await?;
    let run = Run::start(plan, queues.registry(), &proxy, &queues.name).await?;
    for share in [0.3, 0.7] {
        run.until_sent(share).await;
        proxy.cut();
        run.say("the server is away");
        tokio::time::sleep(Duration::from_secs(5)).await;
        proxy.restore(&server.endpoint);
        run.say("the server is back");
    }
    let outcome = run.finish(queues.admin(&server.endpoint).await?).await;
    queues.delete(&server.endpoint).await?;
    outcome
}

/// A queue and its dead-letter queue.
struct Queues {
    sqs: Sqs,
    name: String,
}

impl Queues {
    async fn create(endpoint: &str) -> towpath_core::Result<Self> {
        let queues = Self {
            sqs: Sqs::new(),
            name: unique(""),
        };
        for name in [queues.name.clone(), run::dead_letter_name(&queues.name)] {
            let admin = queues.sqs.admin(&config(endpoint, &name)).await?;
            let spec = QueueSpec::new().with_lease(LEASE);
            admin.ensure(&spec, EnsureMode::Create).await?;
        }
        Ok(queues)
    }

    fn registry(&self) -> Registry {
        Registry::new().with(self.sqs.clone())
    }

    /// Straight to the server.
    async fn admin(&self, endpoint: &str) -> towpath_core::Result<Arc<dyn Admin>> {
        self.sqs.admin(&config(endpoint, &self.name)).await
    }

    async fn delete(&self, endpoint: &str) -> towpath_core::Result<()> {
        for name in [self.name.clone(), run::dead_letter_name(&self.name)] {
            self.sqs
                .admin(&config(endpoint, &name))
                .await?
                .delete()
                .await?;
        }
        Ok(())
    }
}
