use std::{collections::VecDeque, process::ExitCode, time::Duration};

use towpath::Depth;

use crate::{Global, output, signal};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queues: URLs or configured names [default: all that are configured]
    queues: Vec<String>,
    /// Show again and again, with a sparkline
    #[arg(long, short)]
    watch: bool,
    /// How long to wait between two looks
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    every: Duration,
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let mut names = args.queues.clone();
    if names.is_empty() {
        names = global.configuration()?.names().map(str::to_owned).collect();
        anyhow::ensure!(
            !names.is_empty(),
            "no queue is configured; name one, e.g. sqs://orders"
        );
    }
    let mut queues = Vec::new();
    for name in names {
        queues.push((global.queue(&name)?.admin().await?, name, VecDeque::new()));
    }
    let stopped = signal::stopped();
    tokio::pin!(stopped);
    loop {
        let mut rows = Vec::new();
        for (admin, name, history) in &mut queues {
            let depth = admin
                .depth()
                .await
                .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            history.push_back(depth.total());
            if history.len() > 30 {
                history.pop_front();
            }
            if global.output == output::Form::Json {
                output::json(&serde_json::json!({ "queue": name, "depth": depth }))?;
            }
            rows.push(row(name, depth, history));
        }
        if global.output == output::Form::Human {
            output::table(
                ["QUEUE", "READY", "LEASED", "DELAYED", "OLDEST", "TREND"],
                &rows,
            )?;
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(args.every) => {}
            () = &mut stopped => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn row(name: &str, depth: Depth, history: &VecDeque<u64>) -> [String; 6] {
    let age =
        |age: Duration| humantime::format_duration(Duration::from_secs(age.as_secs())).to_string();
    [
        name.to_owned(),
        depth.ready.to_string(),
        depth.leased.to_string(),
        depth.delayed.to_string(),
        depth.oldest_age.map_or("-".to_owned(), age),
        sparkline(history),
    ]
}

/// A row of blocks, the highest for the largest value.
fn sparkline(values: &VecDeque<u64>) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    values
        .iter()
        .map(|value| BLOCKS[usize::try_from(value * 7 / most).unwrap_or(7)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sparkline_rises_to_the_largest_value() {
        assert_eq!(sparkline(&VecDeque::from([0, 5, 10])), "▁▄█");
        assert_eq!(sparkline(&VecDeque::from([0, 0])), "▁▁");
    }
}
