//! Tables for people, JSON for programs.

use std::{
    io::{IsTerminal, Write},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
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

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also in a pipe
    Always,
    /// Not at all
    Never,
}

/// Whether standard output is coloured.
static COLORED_OUT: AtomicBool = AtomicBool::new(false);
/// Whether standard error is coloured.
static COLORED_ERR: AtomicBool = AtomicBool::new(false);
/// The progress bars, so that what is written to stderr does not run into them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Decides on colours, once.
pub(crate) fn use_color(wanted: Option<Color>) {
    let decide = |is_terminal: bool| match wanted {
        Some(Color::Always) => true,
        Some(Color::Never) => false,
        Some(Color::Auto) | None => {
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    };
    COLORED_OUT.store(decide(std::io::stdout().is_terminal()), Ordering::Relaxed);
    COLORED_ERR.store(decide(std::io::stderr().is_terminal()), Ordering::Relaxed);
}

/// Whether standard error is coloured.
pub(crate) fn is_colored_err() -> bool {
    COLORED_ERR.load(Ordering::Relaxed)
}

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Headings
    Bold,
    /// What is wrong
    Red,
    /// What may be wrong
    Yellow,
    /// What is well, or new
    Green,
}

/// The text as it is painted on standard output.
pub(crate) fn paint(text: &str, paint: Paint) -> String {
    painted(text, paint, COLORED_OUT.load(Ordering::Relaxed))
}

fn painted(text: &str, paint: Paint, is_colored: bool) -> String {
    if !is_colored {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Bold => 1,
        Paint::Red => 31,
        Paint::Yellow => 33,
        Paint::Green => 32,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Where the log goes: stderr, above the progress bars.
pub(crate) fn log() -> impl Write {
    struct Log;
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            BARS.suspend(|| std::io::stderr().write(bytes))
        }

        fn flush(&mut self) -> std::io::Result<()> {
            std::io::stderr().flush()
        }
    }
    Log
}

/// Nobody reads standard output any more, as behind `| head`. No error for the user, but a reason to
/// end: what is held goes back first.
#[derive(Debug)]
pub(crate) struct ClosedPipe;

impl std::fmt::Display for ClosedPipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for ClosedPipe {}

/// Writes one line to standard output.
///
/// # Errors
///
/// [`ClosedPipe`], and what writing reports.
pub(crate) fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes bytes to standard output, as they are.
///
/// # Errors
///
/// As [`line`].
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let written = BARS.suspend(|| {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    });
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        result => Ok(result?),
    }
}

/// Writes one value as a line of JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Writes a sentence for people to stderr, only where one is there to read it.
pub(crate) fn note(text: impl std::fmt::Display) {
    if std::io::stderr().is_terminal() {
        tell(text);
    }
}

/// Writes a sentence to stderr that nobody should miss.
pub(crate) fn tell(text: impl std::fmt::Display) {
    BARS.suspend(|| {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    });
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
    let error = painted("error:", Paint::Red, is_colored_err());
    tell(format_args!("{error} {text}"));
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
        padded.join("  ").trim_end().to_owned()
    };
    line(paint(&show(head), Paint::Bold))?;
    for row in rows {
        line(show(row.each_ref().map(String::as_str)))?;
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
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        return bar;
    }
    // Without this a bar stands still while a request takes long.
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    BARS.add(bar)
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
    fn colours_are_used_only_where_they_are_wanted() {
        assert_eq!(painted("x", Paint::Red, false), "x");
        assert_eq!(painted("x", Paint::Red, true), "\u{1b}[31mx\u{1b}[0m");
    }

    #[test]
    fn a_preview_cannot_steer_the_terminal() {
        assert_eq!(preview(b"a\x1b[2Jb\nc", 20), "a\\u{1b}[2Jb\\nc");
        assert_eq!(preview("äöü".as_bytes(), 2), "äö…");
    }
}
