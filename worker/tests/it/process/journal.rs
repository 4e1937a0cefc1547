//! What worker processes do, in a file that outlives them.
//!
//! All processes append to one file, one write per call, so the order of the lines is the order of
//! the events. A process that is killed in a write leaves a torn line at most; its next writer
//! begins on a new one.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::SystemTime,
};

use uuid::Uuid;

/// What is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Leased, until the time in `until`, with this content, by a request of the time in `asked`.
    Received {
        content: u64,
        until: u64,
        asked: u64,
    },
    /// The handler began.
    Started,
    /// The handler did its work, and is about to return [`Ack`](towpath_core::Outcome::Ack).
    Effect,
    /// Extended, until the time in `until`.
    Extended { until: u64 },
    /// The queue confirmed the ack.
    Acked,
    /// The ack failed.
    Refused,
    /// About to be given back.
    Nacked,
    /// The worker was asked to stop.
    Draining,
    /// The process is no more; written by its parent.
    Gone,
    /// The process was stopped; written by its parent.
    Stopped,
}

/// A line of the journal.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// In microseconds of the system's clock.
    pub(super) at: u64,
    /// The process.
    pub(super) who: String,
    /// The message, nil where there is none.
    pub(super) key: Uuid,
    pub(super) what: What,
}

/// The time of now, as in the journal.
pub(super) fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// Appends to a journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    who: String,
}

impl Journal {
    pub(super) fn open(path: &Path, who: &str) -> io::Result<Self> {
        Ok(Self {
            file: File::options().create(true).append(true).open(path)?,
            who: who.to_owned(),
        })
    }

    pub(super) fn note(&self, key: Uuid, what: What) {
        self.note_all(&[(key, what)]);
    }

    /// In one write.
    pub(super) fn note_all(&self, events: &[(Uuid, What)]) {
        self.write(&self.who, events);
    }

    /// Notes what became of the process `who`.
    pub(super) fn note_of(&self, who: &str, what: What) {
        self.write(who, &[(Uuid::nil(), what)]);
    }

    fn write(&self, who: &str, events: &[(Uuid, What)]) {
        let at = now();
        let mut text = String::from("\n");
        for (key, what) in events {
            let (name, numbers) = match *what {
                What::Received {
                    content,
                    until,
                    asked,
                } => ("received", [content, until, asked]),
                What::Started => ("started", [0; 3]),
                What::Effect => ("effect", [0; 3]),
                What::Extended { until } => ("extended", [0, until, 0]),
                What::Acked => ("acked", [0; 3]),
                What::Refused => ("refused", [0; 3]),
                What::Nacked => ("nacked", [0; 3]),
                What::Draining => ("draining", [0; 3]),
                What::Gone => ("gone", [0; 3]),
                What::Stopped => ("stopped", [0; 3]),
            };
            let [content, until, asked] = numbers;
            // The stop at the end tells a whole line from a torn one.
            text.push_str(&format!(
                "{at} {who} {name} {key} {content} {until} {asked} .\n"
            ));
        }
        // Not `write_all`: a second write would not be where the first one ended.
        let written = (&self.file).write(text.as_bytes()).unwrap();
        assert_eq!(written, text.len(), "the journal takes whole lines");
    }
}

/// Reads a journal while it grows.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    rest: Vec<u8>,
    /// Lines that were cut off by a kill.
    pub(super) torn: usize,
}

impl Reader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            rest: Vec::new(),
            torn: 0,
        })
    }

    /// Appends the events that are new.
    pub(super) fn read_into(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.file.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(());
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        let text = String::from_utf8(whole).map_err(io::Error::other)?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            match parse(line) {
                Some(event) => events.push(event),
                None => self.torn += 1,
            }
        }
        Ok(())
    }
}

fn parse(line: &str) -> Option<Event> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    let (at, who, name) = (next()?.parse().ok()?, next()?.to_owned(), next()?);
    let key = next()?.parse().ok()?;
    let mut number = || next()?.parse().ok();
    let (content, until, asked) = (number()?, number()?, number()?);
    (next()? == "." && next().is_none()).then_some(())?;
    let what = match name {
        "received" => What::Received {
            content,
            until,
            asked,
        },
        "started" => What::Started,
        "effect" => What::Effect,
        "extended" => What::Extended { until },
        "acked" => What::Acked,
        "refused" => What::Refused,
        "nacked" => What::Nacked,
        "draining" => What::Draining,
        "gone" => What::Gone,
        "stopped" => What::Stopped,
        _ => return None,
    };
    Some(Event { at, who, key, what })
}

#[test]
fn a_journal_is_read_as_it_was_written_and_a_torn_line_harms_no_other() {
    let path = std::env::temp_dir().join(format!("journal-{:016x}", fastrand::u64(..)));
    let journal = Journal::open(&path, "w1").unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let key = Uuid::from_u128(7);
    let received = What::Received {
        content: 0xfe,
        until: 9,
        asked: 8,
    };
    journal.note_all(&[(key, received), (key, What::Started)]);
    // Killed in the middle of a line.
    (&journal.file).write_all(b"\n123 w1 effe").unwrap();
    journal.note_of("w1", What::Gone);
    journal.note(key, What::Extended { until: 11 });
    let mut events = Vec::new();
    reader.read_into(&mut events).unwrap();
    reader.read_into(&mut events).unwrap();
    let whats: Vec<What> = events.iter().map(|event| event.what).collect();
    let extended = What::Extended { until: 11 };
    assert_eq!(whats, [received, What::Started, What::Gone, extended]);
    assert_eq!((reader.torn, events[0].key), (1, key));
    assert_eq!(events[2].who, "w1");
    std::fs::remove_file(path).unwrap();
}
