use std::{process::ExitCode, time::Duration};

use towpath::{EnsureMode, QueueSpec};

use crate::{Global, output, queue};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queue: a URL or a configured name
    queue: String,
    /// Do what the plan says, also to a live queue
    #[arg(long)]
    apply: bool,
    /// Honour ordering keys (SQS: the name ends in .fifo)
    #[arg(long)]
    ordered: bool,
    /// Confirm acks (Pub/Sub exactly-once delivery)
    #[arg(long)]
    exactly_once: bool,
    /// Keep unread messages for this long, e.g. 7d [default: the cloud's own]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    retention: Option<Duration>,
    /// After how many deliveries the broker itself dead-letters a message [default: well above
    /// the queue's max_attempts]
    #[arg(long, value_name = "N")]
    max_deliveries: Option<u32>,
}

/// The broker's own limit: above the consumer's, because deliveries that end in a drain, a lost
/// lease or an open breaker count there too.
pub(crate) fn backstop(max_attempts: Option<u32>) -> u32 {
    let attempts = max_attempts.unwrap_or(10);
    (attempts.saturating_mul(2))
        .max(attempts.saturating_add(5))
        .clamp(5, 100)
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let queue = global.queue(&args.queue)?;
    let options = queue.options();
    let mut spec = QueueSpec::new();
    spec.lease = options.lease;
    spec.ordered = args.ordered;
    spec.exactly_once = args.exactly_once;
    spec.retention = args.retention;
    if let Some(dead_letter) = &options.dead_letter {
        let most = args
            .max_deliveries
            .unwrap_or_else(|| backstop(options.max_attempts));
        spec = spec.with_dead_letter(dead_letter, most);
    }
    let mode = if args.apply {
        EnsureMode::Apply
    } else {
        EnsureMode::Plan
    };
    let changes = queue.admin().await?.ensure(&spec, mode).await?;
    if global.output == output::Form::Json {
        for change in &changes {
            output::json(change)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if options.dead_letter.is_none() {
        output::line(
            "note: no dead_letter is configured: messages that cannot succeed are tried for ever",
        )?;
    }
    if changes.is_empty() {
        output::line(format_args!("{} is as wanted", queue::shown(&queue)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = changes
        .into_iter()
        .map(|change| {
            [
                change.setting,
                change.from.unwrap_or_else(|| "-".to_owned()),
                change.to,
            ]
        })
        .collect();
    output::table(
        ["SETTING", "IS", if args.apply { "NOW" } else { "TO BE" }],
        &rows,
    )?;
    if !args.apply {
        output::line("nothing was changed; say --apply to do it")?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backstop_is_above_the_consumer_s_limit_and_legal_on_both_clouds() {
        for (attempts, wanted) in [
            (None, 20),
            (Some(1), 6),
            (Some(5), 10),
            (Some(30), 60),
            (Some(90), 100),
        ] {
            assert_eq!(backstop(attempts), wanted);
        }
    }
}
