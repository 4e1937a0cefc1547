//! Tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Tables and sentences
    #[default]
    Human,
    /// One JSON value per line
    Json,
}

/// Writes one line to standard output. A closed pipe ends the program quietly.
pub(crate) fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Writes one value as a line of JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Writes a sentence for people to stderr, only where one is there to read it.
pub(crate) fn note(text: impl std::fmt::Display) {
    let mut err = std::io::stderr().lock();
    if std::io::stderr().is_terminal() {
        let _ = writeln!(err, "{text}");
    }
}

/// Writes an error with what caused it.
pub(crate) fn print_error(error: &anyhow::Error) {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    let _ = writeln!(std::io::stderr().lock(), "error: {text}");
}

/// A table with aligned columns.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> anyhow::Result<()> {
    let mut widths = head.map(|text| text.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let show = |cells: [&str; N]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(padded.join("  ").trim_end())
    };
    show(head)?;
    for row in rows {
        show(row.each_ref().map(String::as_str))?;
    }
    Ok(())
}

/// A progress bar on a terminal, nothing elsewhere. Without a length it counts up.
pub(crate) fn progress(length: Option<u64>, what: &'static str) -> ProgressBar {
    let bar = match length {
        Some(length) => ProgressBar::new(length)
            .with_style(style("{msg} {wide_bar} {pos}/{len} {per_sec} eta {eta}")),
        None => ProgressBar::new_spinner().with_style(style("{msg} {pos} {per_sec} {elapsed}")),
    };
    bar.set_message(what);
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A body as text: as it is where it is printable, else escaped; cut after `most` characters.
pub(crate) fn preview(body: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(body);
    let mut shown: String = text
        .chars()
        .take(most)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().count() > most {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_cannot_steer_the_terminal() {
        assert_eq!(preview(b"a\x1b[2Jb\nc", 20), "a\\u{1b}[2Jb\\nc");
        assert_eq!(preview("äöü".as_bytes(), 2), "äö…");
    }
}
