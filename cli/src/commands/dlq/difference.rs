//! What an edit changes, in lines.

use towpath::{Attributes, Message};

use crate::output::{self, Paint};

/// The most lines that are shown of each side of a body.
const LINES: usize = 20;
/// The most characters that are shown of a line.
const WIDTH: usize = 160;
/// How many equal characters are shown before the first difference of a line.
const BEFORE: usize = 40;

/// The lines that tell `old` from `new`: `- ..` and `+ ..`. Empty when they are the same.
pub(super) fn of(old: &Message, new: &Message) -> Vec<String> {
    let mut lines = attributes(old.attributes(), new.attributes());
    if old.body() != new.body() {
        lines.push(format!(
            "body: {} bytes, now {} bytes",
            old.body().len(),
            new.body().len()
        ));
        lines.extend(bodies(old.body(), new.body()));
    }
    lines
}

fn attributes(old: &Attributes, new: &Attributes) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in old.iter() {
        if new.get(name) != Some(value) {
            lines.push(removed(&format!("{name}: {value}")));
        }
    }
    for (name, value) in new.iter() {
        if old.get(name) != Some(value) {
            lines.push(added(&format!("{name}: {value}")));
        }
    }
    lines
}

fn removed(text: &str) -> String {
    output::paint(&format!("- {}", shown(text)), Paint::Red)
}

fn added(text: &str) -> String {
    output::paint(&format!("+ {}", shown(text)), Paint::Green)
}

fn shown(text: &str) -> String {
    output::preview(text.as_bytes(), WIDTH)
}

/// Everything between the first and the last line that differ.
fn bodies(old: &[u8], new: &[u8]) -> Vec<String> {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let same = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (old, new) = (&old[..old.len() - same], &new[..new.len() - same]);
    let skip = match (old.first(), new.first()) {
        (Some(old), Some(new)) => old
            .chars()
            .zip(new.chars())
            .take_while(|(a, b)| a == b)
            .count()
            .saturating_sub(BEFORE),
        _ => 0,
    };
    let mut lines = side(old, skip, removed);
    lines.extend(side(new, skip, added));
    lines
}

fn side(lines: &[&str], skip: usize, mark: fn(&str) -> String) -> Vec<String> {
    let mut shown: Vec<String> = lines
        .iter()
        .take(LINES)
        .enumerate()
        .map(|(number, line)| {
            if number == 0 && skip > 0 {
                let rest: String = line.chars().skip(skip).collect();
                mark(&format!("…{rest}"))
            } else {
                mark(line)
            }
        })
        .collect();
    if lines.len() > LINES {
        shown.push(format!("  {} more lines", lines.len() - LINES));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        let old = Message::new("a\nb\nc\nd").with_attribute("tenant", "x");
        let new = Message::new("a\nB\nd")
            .with_attribute("tenant", "x")
            .with_attribute("fixed", "1");
        assert_eq!(
            of(&old, &new),
            [
                "+ fixed: 1",
                "body: 7 bytes, now 5 bytes",
                "- b",
                "- c",
                "+ B"
            ]
        );
        assert!(of(&old, &old.clone()).is_empty());
    }

    #[test]
    fn a_long_line_is_shown_from_shortly_before_its_first_difference() {
        let long = "x".repeat(500);
        let lines = bodies(format!("{long}1").as_bytes(), format!("{long}2").as_bytes());
        let before = "x".repeat(BEFORE);
        assert_eq!(lines, [format!("- …{before}1"), format!("+ …{before}2")]);
    }

    #[test]
    fn a_difference_cannot_steer_the_terminal() {
        assert_eq!(bodies(b"a", b"a\x1b[2J"), ["- a", "+ a\\u{1b}[2J"]);
    }
}
