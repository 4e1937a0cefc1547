//! `dlq edit`.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use towpath::{Delivery, Message, Queue, worker::redrive};

use super::{
    difference,
    selection::{self, Place},
};
use crate::{Global, commands::send::pair, confirm, output, queue};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// Its idempotency key or message id, as `dlq list` shows it
    id: String,
    /// Take the new body from a file, instead of an editor
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Set an attribute
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set_attribute: Vec<(String, String)>,
    /// Remove an attribute
    #[arg(long, value_name = "NAME")]
    remove_attribute: Vec<String>,
    /// Send it there: a URL or a configured name [default: the queue that it failed in]
    #[arg(long, value_name = "QUEUE")]
    to: Option<String>,
    /// Send the new body also where the old one was JSON and the new one is not
    #[arg(long)]
    allow_invalid_json: bool,
    /// Show the difference and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Report {
    edited: bool,
    idempotency_key: String,
    to: String,
    /// The broker's id of the copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// Whatever goes wrong before the copy is accepted, the dead letter stays as it was.
pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let (from, sources) = args.place.open(global)?;
    let mut draft = None;
    let result = queue::consuming(from.consumer().await?, async |consumer| {
        let letter = args.place.one(consumer, &args.id).await?;
        edit(
            global,
            &args,
            (&sources, consumer.queue()),
            letter,
            &mut draft,
        )
        .await
    })
    .await;
    match (result, draft) {
        (Err(error), Some(draft)) => {
            let (_, path) = draft.keep()?;
            Err(error.context(format!(
                "the dead letter is unchanged; what you wrote is kept in {}, for --body",
                path.display()
            )))
        }
        (result, _) => result,
    }
}

async fn edit(
    global: &Global,
    args: &Args,
    (sources, from): (&[Queue], &str),
    letter: Delivery,
    draft: &mut Option<tempfile::NamedTempFile>,
) -> anyhow::Result<ExitCode> {
    let target = match &args.to {
        Some(to) => global.queue(to)?,
        None => origin(&letter, sources)?,
    };
    let producer = target.producer().await?;
    let old = letter.envelope().message.clone();
    let copy = redrive::copy(letter.envelope(), from, &producer);
    let new = args.apply(copy, draft).await?;

    let changes = difference::of(&old, &new);
    let mut report = Report {
        edited: false,
        idempotency_key: new.idempotency_key().to_string(),
        to: queue::shown(&target),
        id: None,
    };
    if changes.is_empty() {
        output::tell("nothing was changed; `towpath dlq redrive` sends a dead letter as it is");
        return done(global, &report);
    }
    if global.output == output::Form::Human {
        changes.iter().try_for_each(output::line)?;
    }
    if !args.allow_invalid_json {
        check_json(old.body(), new.body())?;
    }
    if args.dry_run {
        return done(global, &report);
    }
    let question = format!("{} is to be sent to {} with this.", args.id, report.to);
    confirm::ask(&question, "nothing was sent", args.yes).await?;
    ensure!(
        !letter.is_lease_lost(),
        "the lease on the dead letter is gone, somebody else may have it by now; nothing was sent"
    );

    // First the copy, then the ack: a crash in between duplicates and never loses.
    let sent = producer.send(mark_edited(new)).await?;
    report.id = Some(sent.to_string());
    report.edited = true;
    producer.close().await?;
    let acked = letter.ack().await;
    // From here on the copy is out: the draft has done its work.
    draft.take();
    acked.context(
        "the edited copy was sent, but the dead letter could not be removed: it is in both \
         queues, with one idempotency key",
    )?;
    done(global, &report)
}

fn done(global: &Global, report: &Report) -> anyhow::Result<ExitCode> {
    match (global.output, &report.id) {
        (output::Form::Json, _) => output::json(report)?,
        (output::Form::Human, Some(id)) => {
            output::line(format_args!("sent to {} as {id}", report.to))?;
        }
        (output::Form::Human, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The queue that the message failed in, if it is one of those that are known.
fn origin(letter: &Delivery, sources: &[Queue]) -> anyhow::Result<Queue> {
    let Some(failure) = letter.envelope().message.failure() else {
        bail!(
            "the broker parked this message itself, without a record of where it failed; name the \
             target with --to"
        );
    };
    sources
        .iter()
        .find(|source| selection::names_of(source).contains(&failure.queue))
        .cloned()
        .with_context(|| {
            format!(
                "the message failed in {}, which is not known here; name the target with --to",
                failure.queue
            )
        })
}

fn mark_edited(message: Message) -> Message {
    let mut record = message.failure().cloned();
    if let Some(record) = &mut record {
        record.edits = record.edits.saturating_add(1);
    }
    message.with_failure(record)
}

/// A body that was JSON and is not any more is most often a slip of the hand.
fn check_json(old: &[u8], new: &[u8]) -> anyhow::Result<()> {
    let parse = serde_json::from_slice::<serde::de::IgnoredAny>;
    if parse(old).is_err() {
        return Ok(());
    }
    parse(new)
        .map(drop)
        .context("the body was JSON and is not any more; correct it, or say --allow-invalid-json")
}

impl Args {
    async fn apply(
        &self,
        mut message: Message,
        draft: &mut Option<tempfile::NamedTempFile>,
    ) -> anyhow::Result<Message> {
        let mut attributes = message.attributes().clone();
        for name in &self.remove_attribute {
            attributes
                .remove(name)
                .with_context(|| format!("there is no attribute {name} to remove"))?;
        }
        for (name, value) in &self.set_attribute {
            attributes.insert(name, value);
        }
        message = message.with_attributes(attributes);
        if let Some(path) = &self.body {
            let body = std::fs::read(path);
            let body = body.with_context(|| format!("cannot read {}", path.display()))?;
            return Ok(message.with_body(body));
        }
        if !self.set_attribute.is_empty() || !self.remove_attribute.is_empty() {
            return Ok(message);
        }
        let body = in_editor(message.body(), draft).await?;
        Ok(message.with_body(body))
    }
}

/// Lets the user edit the body. The lease is kept meanwhile, up to the queue's `max_lease`.
async fn in_editor(
    body: &[u8],
    draft: &mut Option<tempfile::NamedTempFile>,
) -> anyhow::Result<Vec<u8>> {
    let text = std::str::from_utf8(body)
        .context("the body is not text, so no editor opens it; give the new one with --body")?;
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|editor| !editor.trim().is_empty())
        .context("neither VISUAL nor EDITOR is set; set one, or give the new body with --body")?;
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let file = tempfile::Builder::new()
        .prefix("towpath-edit-")
        .suffix(if is_json { ".json" } else { ".txt" })
        .tempfile()
        .context("cannot write a file to edit")?;
    std::fs::write(file.path(), text)?;
    let path = file.path().to_owned();
    *draft = Some(file);
    let (sender, ended) = tokio::sync::oneshot::channel();
    // A thread of its own, so that leases are kept while the editor is open.
    std::thread::spawn({
        let path = path.clone();
        move || sender.send(open(&editor, &path))
    });
    // Ctrl-C is the editor's while it is open.
    ended.await.context("the editor was not started")??;
    let edited = std::fs::read(&path).context("cannot read what was edited")?;
    // Editors end a file with a line break, also where there was none.
    Ok(match edited.strip_suffix(b"\n") {
        Some(stripped) if !text.ends_with('\n') => stripped.to_vec(),
        _ => edited,
    })
}

/// Runs the editor on a file, and waits for it.
fn open(editor: &str, path: &Path) -> anyhow::Result<()> {
    // The variable may hold options, as in `code --wait`.
    let mut words = editor.split_whitespace();
    let program = words.next().context("no editor is named")?;
    let status = Command::new(program)
        .args(words)
        .arg(path)
        .status()
        .with_context(|| format!("cannot run the editor {editor:?}"))?;
    ensure!(
        status.success(),
        "the editor {editor:?} ended with {status}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use towpath::{FailureClass, FailureRecord};

    use super::*;

    #[test]
    fn json_stays_json() {
        assert!(check_json(b"{\"a\":1}", b"{\"a\":2}").is_ok());
        assert!(check_json(b"{\"a\":1}", b"{\"a\":2").is_err());
        assert!(check_json(b"plain", b"{").is_ok());
    }

    #[test]
    fn an_edit_is_counted_in_the_record() {
        let record = FailureRecord::new(FailureClass::Permanent, "no", "orders");
        let message = Message::new("x").with_failure(Some(record));
        let marked = mark_edited(mark_edited(message));
        assert_eq!(marked.failure().unwrap().edits, 2);
    }
}
