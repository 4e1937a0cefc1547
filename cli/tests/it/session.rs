//! The recorded sessions of the documentation, replayed.
//!
//! A page is replayed as a reader would follow it: a block `toml` becomes `towpath.toml`, and in the
//! blocks `console` each line `$ [NAME=VALUE] towpath ..` is run, and what it writes is compared with the lines
//! below it. Ids and times are other ones each time: they are compared by their place, and an id
//! that a command takes is the one that was written in this run. A line `[exit N]` tells of an exit
//! code that is not zero.
//!
//! With `TOWPATH_RECORD=1` the pages are written anew.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    LocalTest, Outcome, ServerTest,
    server::Server,
    tests,
    tool::{Run, Tool},
};

pub(crate) const TESTS: &[LocalTest] = tests![the_pages_show_every_command];

pub(crate) const SERVER_TESTS: &[ServerTest] = tests![
    the_session_is_as_written,
    the_page_of_commands_is_as_written
];

/// The name of the queue in the pages. The replay takes another of the same length.
const QUEUE: &str = "orders";
/// The server in the pages.
const ENDPOINT: &str = "http://127.0.0.1:24566";

fn page(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../docs/src/operate").join(name)
}

fn the_pages_show_every_command() -> Outcome {
    let tool = Tool::new();
    let page = std::fs::read_to_string(page("cli.md"))?;
    let shown = |line: &str| page.lines().any(|shown| shown.starts_with(line));
    for (command, parent) in [("--help", ""), ("dlq", "dlq ")] {
        let help = tool.ok(&[command, "--help"]);
        let commands = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|command| !["help", "dlq", "completions"].contains(command));
        for command in commands {
            let line = format!("$ towpath {parent}{command}");
            assert!(shown(&line), "the page cli.md has no line {line:?}");
        }
    }
    Ok(())
}

fn the_session_is_as_written(server: &Server) -> Outcome {
    replay("session.md", server)
}

fn the_page_of_commands_is_as_written(server: &Server) -> Outcome {
    replay("cli.md", server)
}

fn replay(name: &str, server: &Server) -> Outcome {
    let path = page(name);
    let text = std::fs::read_to_string(&path)?;
    let mut replay = Replay::new(server);
    let mut blocks = Blocks::default();
    let mut new = String::new();
    for line in text.lines() {
        blocks.read(line, &mut replay, &mut new)?;
    }
    if std::env::var_os("TOWPATH_RECORD").is_some() {
        std::fs::write(&path, new)?;
        return Ok(());
    }
    if replay.differences.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{name} is not as the tool works (TOWPATH_RECORD=1 writes it anew):\n{}",
        replay.differences
    )
    .into())
}

/// Where in the page we are.
#[derive(Default)]
struct Blocks {
    kind: Option<String>,
    file: String,
    command: Option<String>,
    written: Vec<String>,
}

impl Blocks {
    fn read(&mut self, line: &str, replay: &mut Replay, new: &mut String) -> Outcome {
        let is_fence = line.starts_with("```");
        match self.kind.as_deref() {
            None if is_fence => self.kind = Some(line[3..].to_owned()),
            Some("toml") if is_fence => {
                replay
                    .tool
                    .write("towpath.toml", replay.to_real(&self.file));
                self.file.clear();
            }
            Some("toml") => self.file.push_str(&format!("{line}\n")),
            Some("console") if is_fence => self.run(replay, new)?,
            Some("console") => {
                if let Some(command) = line.strip_prefix("$ ") {
                    self.run(replay, new)?;
                    self.command = Some(command.to_owned());
                } else {
                    self.written.push(line.to_owned());
                }
                return Ok(());
            }
            _ => {}
        }
        if is_fence && line == "```" {
            self.kind = None;
        }
        writeln!(new, "{line}")?;
        Ok(())
    }

    /// Runs the command whose output was read, if there is one.
    fn run(&mut self, replay: &mut Replay, new: &mut String) -> Outcome {
        let written = std::mem::take(&mut self.written).join("\n");
        if let Some(command) = self.command.take() {
            let (command, real) = replay.step(&command, written.trim_end())?;
            writeln!(new, "$ {command}")?;
            if !real.is_empty() {
                writeln!(new, "{real}")?;
            }
        }
        Ok(())
    }
}

struct Replay {
    tool: Tool,
    endpoint: String,
    queue: String,
    /// The ids of the page and of this run, in the order of their first appearance.
    written: Ids,
    real: Ids,
    differences: String,
}

#[derive(Default)]
struct Ids {
    order: Vec<String>,
    places: BTreeMap<String, usize>,
}

impl Ids {
    fn place(&mut self, id: &str) -> usize {
        if let Some(place) = self.places.get(id) {
            return *place;
        }
        self.order.push(id.to_owned());
        self.places.insert(id.to_owned(), self.order.len());
        self.order.len()
    }

    /// The text with ids and times replaced by their places, and with single spaces: the address of
    /// the server may make a column wider.
    fn normal(&mut self, text: &str) -> String {
        let text: Vec<String> = text
            .lines()
            .map(|line| without_attempt(&single_spaced(line)))
            .collect();
        map_words(&text.join("\n"), |word| {
            if is_uuid(word) {
                Some(format!("<id {}>", self.place(word)))
            } else if is_time(word) {
                Some("<time>".to_owned())
            } else {
                None
            }
        })
    }
}

impl Replay {
    fn new(server: &Server) -> Self {
        // Of the same length, so that tables stay as they are.
        let digits: Vec<char> = ('a'..='z').chain('0'..='9').collect();
        let random = (0..QUEUE.len() - 2).map(|_| digits[fastrand::usize(..digits.len())]);
        Self {
            tool: Tool::new(),
            endpoint: server.endpoint.clone(),
            queue: format!("oq{}", random.collect::<String>()),
            written: Ids::default(),
            real: Ids::default(),
            differences: String::new(),
        }
    }

    fn to_real(&self, text: &str) -> String {
        text.replace(ENDPOINT, &self.endpoint)
            .replace(QUEUE, &self.queue)
    }

    fn to_written(&self, text: &str) -> String {
        text.replace(&self.endpoint, ENDPOINT)
            .replace(&self.queue, QUEUE)
    }

    /// Runs a command and returns it as it was run, with what it wrote.
    fn step(
        &mut self,
        command: &str,
        written: &str,
    ) -> Result<(String, String), Box<dyn std::error::Error + Send + Sync>> {
        let command = map_words(command, |word| {
            let place = self.written.places.get(word)?;
            self.real.order.get(place - 1).cloned()
        });
        let mut words = words(&self.to_real(&command));
        let mut variables = Vec::new();
        while let Some((name, value)) = words[0].split_once('=') {
            variables.push((name.to_owned(), value.to_owned()));
            words.remove(0);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = match words.as_slice() {
            ["towpath", arguments @ ..] => {
                let run = self.tool.command(arguments).envs(variables).output()?;
                let run = Run::of(run);
                let code = match run.code {
                    0 => String::new(),
                    code => format!("[exit {code}]\n"),
                };
                format!("{}{}{code}", run.out, run.err)
            }
            ["cat", file] => self.tool.read(file),
            _ => return Err(format!("the replay does not know {command:?}").into()),
        };
        let output = self.to_written(output.trim_end());
        let (wanted, found) = (self.written.normal(written), self.real.normal(&output));
        if figures(&command, &wanted) != figures(&command, &found) {
            write!(
                self.differences,
                "$ {command}\n--- written\n{wanted}\n--- found\n{found}\n"
            )?;
        }
        Ok((command, output))
    }
}

/// What is measured differs each time, so only the words are compared there.
fn figures(command: &str, text: &str) -> String {
    if !command.starts_with("towpath bench") {
        return text.to_owned();
    }
    map_words(text, |word| {
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        is_number.then(|| "<n>".to_owned())
    })
}

/// Replaces words of letters, digits, `-`, `:` and `.`.
fn map_words(text: &str, mut map: impl FnMut(&str) -> Option<String>) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        if end == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        let ends = [':', '.'];
        let begun = word.trim_start_matches(ends);
        let trimmed = begun.trim_end_matches(ends);
        out.push_str(&word[..word.len() - begun.len()]);
        out.push_str(&map(trimmed).unwrap_or_else(|| trimmed.to_owned()));
        out.push_str(&begun[trimmed.len()..]);
        rest = after;
    }
    out
}

fn single_spaced(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let words: Vec<&str> = line.split_whitespace().collect();
    format!("{}{}", &line[..indent], words.join(" "))
}

/// The line without the attempt of a message as JSON: a message that was fetched ahead and given back
/// unseen may count one more.
fn without_attempt(line: &str) -> String {
    let Some((before, after)) = line.split_once("\"attempt\":") else {
        return line.to_owned();
    };
    let after = after
        .trim_start()
        .trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}\"attempt\":<n>{after}")
}

fn is_uuid(word: &str) -> bool {
    let lengths = word.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// As in `2026-11-23T04:06:20.318Z`, or the milliseconds since 1970.
fn is_time(word: &str) -> bool {
    let bytes = word.as_bytes();
    let is_rfc3339 =
        bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && word.ends_with('Z');
    let is_millis = bytes.len() == 13 && bytes.iter().all(u8::is_ascii_digit);
    is_rfc3339 || is_millis
}

/// The words of a command line, with single quotes as a shell has them.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words
}
