use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use towpath::{Message, Producer};

use crate::{Global, output, queue, signal};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The queue: a URL or a configured name
    queue: String,
    /// The bodies, a message each; `-` reads one body from standard input
    bodies: Vec<String>,
    /// Send the content of a file as one message
    #[arg(long, value_name = "FILE", conflicts_with = "bodies")]
    file: Option<PathBuf>,
    /// Send a message per line of a file (`-`: standard input): JSON objects with `body` (text or
    /// JSON), and optionally `attributes`, `ordering_key`, `dedup_id`, `delay`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bodies", "file"])]
    jsonl: Option<PathBuf>,
    /// An attribute for every message
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    attribute: Vec<(String, String)>,
    /// The ordering key of every message
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// Keep every message invisible for this long, e.g. 30s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
}

/// `NAME=VALUE`, for clap.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// One line of a JSONL file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    body: serde_json::Value,
    #[serde(default)]
    attributes: std::collections::BTreeMap<String, String>,
    ordering_key: Option<String>,
    dedup_id: Option<String>,
    delay: Option<String>,
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let queue = global.queue(&args.queue)?;
    let producer = queue.producer().await?;
    let sent = if let Some(path) = &args.jsonl {
        send_lines(&producer, &args, path, global.output).await?
    } else {
        let messages = bodies(&args)
            .await?
            .into_iter()
            .map(|body| args.dress(Message::new(body)));
        send(&producer, messages.collect(), 0, global.output).await?
    };
    producer.close().await?;
    if global.output == output::Form::Human {
        output::note(format_args!("sent {sent} to {}", queue::shown(&queue)));
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Adds what the options say for every message.
    fn dress(&self, mut message: Message) -> Message {
        for (name, value) in &self.attribute {
            message = message.with_attribute(name, value);
        }
        if let Some(key) = &self.ordering_key {
            message = message.with_ordering_key(key);
        }
        if let Some(delay) = self.delay {
            message = message.with_delay(delay);
        }
        message
    }
}

async fn bodies(args: &Args) -> anyhow::Result<Vec<Vec<u8>>> {
    if let Some(path) = &args.file {
        let body = tokio::fs::read(path).await;
        return Ok(vec![
            body.with_context(|| format!("cannot read {}", path.display()))?,
        ]);
    }
    let mut bodies = Vec::new();
    let from_stdin = vec!["-".to_owned()];
    if args.bodies.is_empty() && std::io::stdin().is_terminal() {
        bail!("nothing to send: give a body, --file or --jsonl, or pipe a body in");
    }
    for body in if args.bodies.is_empty() {
        &from_stdin
    } else {
        &args.bodies
    } {
        if body == "-" {
            let mut input = Vec::new();
            tokio::io::stdin()
                .read_to_end(&mut input)
                .await
                .context("cannot read standard input")?;
            bodies.push(input);
        } else {
            bodies.push(body.clone().into_bytes());
        }
    }
    Ok(bodies)
}

/// Sends a batch; all of it, or an error that names the first message that failed.
async fn send(
    producer: &Producer,
    messages: Vec<Message>,
    before: usize,
    form: output::Form,
) -> anyhow::Result<usize> {
    let results = producer.send_batch(&messages).await;
    let mut failed = Vec::new();
    for (i, (message, result)) in messages.iter().zip(results).enumerate() {
        match result {
            Ok(id) if form == output::Form::Json => output::json(&serde_json::json!({
                "id": id.to_string(),
                "idempotency_key": message.idempotency_key(),
            }))?,
            Ok(id) => output::line(id)?,
            Err(error) => failed.push((before + i + 1, error)),
        }
    }
    if let Some((number, error)) = failed.first() {
        bail!(
            "{} of {} messages were not sent; message {number}: {error}",
            failed.len(),
            messages.len()
        );
    }
    Ok(messages.len())
}

async fn send_lines(
    producer: &Producer,
    args: &Args,
    path: &std::path::Path,
    form: output::Form,
) -> anyhow::Result<usize> {
    let (input, bytes): (Box<dyn AsyncRead + Unpin>, Option<u64>) = if path.as_os_str() == "-" {
        (Box::new(tokio::io::stdin()), None)
    } else {
        let file = tokio::fs::File::open(path).await;
        let file = file.with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = file.metadata().await?.len();
        (Box::new(file), Some(bytes))
    };
    let bar = output::progress(bytes, "sending");
    let mut lines = BufReader::new(input).lines();
    let stopped = signal::stopped();
    tokio::pin!(stopped);
    let (mut sent, mut batch, mut is_open) = (0, Vec::new(), true);
    while is_open {
        // A line that was begun is lost with the program only when it is stopped.
        let line = tokio::select! {
            line = lines.next_line() => line?,
            () = &mut stopped => None,
        };
        match line {
            Some(line) if line.trim().is_empty() => {}
            Some(line) => {
                bar.inc(line.len() as u64 + 1);
                let number = sent + batch.len() + 1;
                let message = parse(&line)
                    .with_context(|| format!("message {number} of {}", path.display()))?;
                batch.push(args.dress(message));
            }
            None => is_open = false,
        }
        if batch.len() >= 100 || (!is_open && !batch.is_empty()) {
            let full = std::mem::take(&mut batch);
            sent += send(producer, full, sent, form).await?;
        }
    }
    bar.finish_and_clear();
    Ok(sent)
}

fn parse(line: &str) -> anyhow::Result<Message> {
    let line: Line = serde_json::from_str(line)?;
    let body = match line.body {
        serde_json::Value::String(text) => text.into_bytes(),
        value => serde_json::to_vec(&value)?,
    };
    let mut message = Message::new(body).with_attributes(line.attributes.into_iter().collect());
    if let Some(key) = line.ordering_key {
        message = message.with_ordering_key(key);
    }
    if let Some(id) = line.dedup_id {
        message = message.with_dedup_id(id);
    }
    if let Some(delay) = line.delay {
        message = message.with_delay(humantime::parse_duration(&delay).context("`delay`")?);
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_text_or_json_and_names_unknown_keys() {
        assert_eq!(
            parse(r#"{"body":"x","attributes":{"a":"b"}}"#)
                .unwrap()
                .body(),
            "x"
        );
        assert_eq!(
            parse(r#"{"body":{"n":1},"delay":"3s"}"#).unwrap().body(),
            r#"{"n":1}"#
        );
        assert!(
            parse(r#"{"body":"x","key":"k"}"#)
                .unwrap_err()
                .to_string()
                .contains("key")
        );
    }
}
