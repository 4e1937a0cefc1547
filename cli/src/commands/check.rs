use std::{process::ExitCode, time::Duration};

use serde::Serialize;
use towpath::{Attempts, Queue, QueueInfo};

use crate::{
    Global,
    output::{self, Paint},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queues: URLs or configured names [default: all that are configured]
    queues: Vec<String>,
    /// The longest that a handler works on a message, to be compared with the longest lease
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    handler_timeout: Option<Duration>,
}

/// What was found, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    queue: String,
    severity: Severity,
    finding: String,
    mend: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Error,
    Warning,
}

/// Exit code 0: nothing, or warnings only; 1: errors.
pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let mut names = args.queues.clone();
    if names.is_empty() {
        names = global.configuration()?.names().map(str::to_owned).collect();
        anyhow::ensure!(
            !names.is_empty(),
            "no queue is configured; name one, e.g. sqs://orders"
        );
    }
    let mut findings = Vec::new();
    for name in &names {
        findings.extend(check(name, &global.queue(name)?, args.handler_timeout).await);
    }
    match global.output {
        output::Form::Json => {
            for finding in &findings {
                output::json(finding)?;
            }
        }
        output::Form::Human if findings.is_empty() => {
            output::line(format_args!("{} queues checked, all is well", names.len()))?;
        }
        output::Form::Human => {
            for finding in &findings {
                let severity = match finding.severity {
                    Severity::Error => output::paint("error", Paint::Red),
                    Severity::Warning => output::paint("warning", Paint::Yellow),
                };
                output::line(format_args!(
                    "{severity}: {}: {}",
                    finding.queue, finding.finding
                ))?;
                output::line(format_args!("    {}", finding.mend))?;
            }
        }
    }
    let is_bad = findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    Ok(if is_bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn check(name: &str, queue: &Queue, handler_timeout: Option<Duration>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |severity, finding: String, mend: String| {
        found.push(Finding {
            queue: name.to_owned(),
            severity,
            finding,
            mend,
        });
    };
    let info = match inspect(queue).await {
        Ok(info) => info,
        Err(error) => {
            let mend = format!(
                "create it with `towpath provision {} --apply`, or grant access",
                quoted(name)
            );
            add(Severity::Error, error.to_string(), mend);
            return found;
        }
    };
    for warning in &info.warnings {
        add(
            Severity::Warning,
            warning.clone(),
            "mend it in the cloud's console, or with `towpath provision`".to_owned(),
        );
    }
    let options = queue.options();
    match queue.dead_letter() {
        Err(error) => add(
            Severity::Error,
            error.to_string(),
            "correct dead_letter".to_owned(),
        ),
        Ok(None) => add(
            Severity::Warning,
            "no dead-letter queue is configured: a message that cannot succeed is tried for ever"
                .to_owned(),
            "add dead_letter=NAME and max_attempts=N".to_owned(),
        ),
        Ok(Some(dead_letter)) => match inspect(&dead_letter).await {
            Err(error) => add(
                Severity::Error,
                format!("the dead-letter queue: {error}"),
                format!(
                    "create it with `towpath provision {} --apply`",
                    quoted(name)
                ),
            ),
            Ok(parked) => {
                if let (Some(source), Some(kept)) = (info.retention, parked.retention)
                    && kept <= source
                {
                    add(
                        Severity::Warning,
                        format!(
                            "the dead-letter queue keeps messages for {}, not longer than the queue itself",
                            humantime::format_duration(kept)
                        ),
                        "give the dead-letter queue the longest retention (14 d on SQS, 31 d on Pub/Sub)".to_owned(),
                    );
                }
            }
        },
    }
    if let (Some(attempts), Some(policy)) = (options.max_attempts, &info.dead_letter)
        && policy.max_deliveries <= attempts
    {
        add(
            Severity::Error,
            format!(
                "the broker dead-letters after {} deliveries, and the consumer allows {attempts} attempts: \
                 messages would be parked early and without a reason",
                policy.max_deliveries
            ),
            format!(
                "provision it with --max-deliveries {}",
                super::provision::backstop(options.max_attempts)
            ),
        );
    }
    if let (Some(wanted), Some(is)) = (options.lease, info.lease)
        && wanted != is
    {
        add(
            Severity::Warning,
            format!(
                "the queue's lease is {}, and the configuration says {}",
                humantime::format_duration(is),
                humantime::format_duration(wanted)
            ),
            "provision it again, or change lease".to_owned(),
        );
    }
    match queue.consumer().await {
        Err(error) => add(
            Severity::Error,
            error.to_string(),
            "a worker would not start; correct this first".to_owned(),
        ),
        Ok(consumer) => {
            if let Some(timeout) = handler_timeout
                && timeout > consumer.max_lease()
            {
                add(
                    Severity::Error,
                    format!(
                        "handlers may take {}, and a message is held for {} at most: it would run twice",
                        humantime::format_duration(timeout),
                        humantime::format_duration(consumer.max_lease())
                    ),
                    "raise max_lease, or shorten the handler's timeout".to_owned(),
                );
            }
            if consumer.capabilities().attempts == Attempts::Uncounted {
                add(
                    Severity::Warning,
                    "the queue does not count attempts, so none can be limited".to_owned(),
                    "give it a dead-letter policy".to_owned(),
                );
            }
            // Nothing was received, so closing cannot lose anything.
            let _ = consumer.close().await;
        }
    }
    found
}

/// The queue as it is typed in a shell.
fn quoted(name: &str) -> String {
    if name.contains("://") {
        format!("'{name}'")
    } else {
        name.to_owned()
    }
}

async fn inspect(queue: &Queue) -> towpath::Result<QueueInfo> {
    queue.admin().await?.inspect().await
}
