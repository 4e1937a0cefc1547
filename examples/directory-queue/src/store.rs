//! The directory: every operation on files, without waiting.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use towpath_core::{
    Depth, Envelope, Error, ErrorKind, Message, MessageId, Result,
    driver::{Receipt, Received},
    wire,
};

/// A queue's directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: Arc<PathBuf>,
    started: (Instant, SystemTime),
    sent: Arc<AtomicU64>,
}

/// `settings.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) lease_ms: u64,
}

/// The state of a message: the name of its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    visible_ms: u64,
    attempts: u32,
    id: String,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix(".json")?.splitn(3, '-');
        Some(Self {
            visible_ms: parts.next()?.parse().ok()?,
            attempts: parts.next()?.parse().ok()?,
            id: parts.next()?.to_owned(),
        })
    }

    fn file(&self) -> String {
        format!(
            "{:017}-{:06}-{}.json",
            self.visible_ms, self.attempts, self.id
        )
    }
}

/// The content of a message's file.
#[derive(Serialize, Deserialize)]
struct Content {
    /// The body as text, or as base64: the attribute `towpath` tells.
    body: String,
    attributes: BTreeMap<String, String>,
    sent_ms: u64,
}

impl Store {
    pub(crate) fn new(folder: PathBuf) -> Self {
        let started = (Instant::now(), SystemTime::now());
        Self {
            folder: Arc::new(folder),
            started,
            sent: Arc::default(),
        }
    }

    pub(crate) fn path(&self) -> String {
        self.folder.display().to_string()
    }

    /// Milliseconds since 1970, by tokio's clock, so that a paused clock holds here too.
    fn now(&self) -> u64 {
        let now = self.started.1 + self.started.0.elapsed();
        millis(
            now.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
        )
    }

    pub(crate) fn settings(&self) -> Result<Settings> {
        let text =
            fs::read(self.folder.join("settings.json")).map_err(|error| self.error(error))?;
        serde_json::from_slice(&text).map_err(|error| {
            let place = self.folder.join("settings.json");
            Error::new(
                ErrorKind::InvalidConfig,
                format!("{}: {error}", place.display()),
            )
        })
    }

    /// Creates the queue, or changes its settings.
    pub(crate) fn write_settings(&self, settings: &Settings) -> Result<()> {
        for folder in ["new", "messages"] {
            fs::create_dir_all(self.folder.join(folder)).map_err(|error| self.error(error))?;
        }
        let text = serde_json::to_vec(settings).map_err(|error| self.error(error.into()))?;
        self.write("settings.json", &text, "settings.json")
    }

    /// Writes a file in full, and shows it under its name only then.
    fn write(&self, temporary: &str, content: &[u8], name: &str) -> Result<()> {
        let temporary = self.folder.join("new").join(temporary);
        let target = self.folder.join(name);
        let write = || {
            let mut file = fs::File::create(&temporary)?;
            io::Write::write_all(&mut file, content)?;
            file.sync_all()?;
            fs::rename(&temporary, &target)?;
            // The name itself must survive a crash, too.
            fs::File::open(target.parent().unwrap_or(&self.folder))?.sync_all()
        };
        write().map_err(|error| self.error(error))
    }

    pub(crate) fn send(&self, message: &Message) -> Result<MessageId> {
        let now = self.now();
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let id = format!("{number:08}{:016x}", fastrand::u64(..));
        let (body, encoding) = wire::body_to_text(message.body());
        let mut attributes: BTreeMap<String, String> = message
            .attributes()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        attributes.insert(
            wire::RESERVED_ATTRIBUTE.to_owned(),
            wire::reserved_value(message, encoding),
        );
        let content = Content {
            body: body.into_owned(),
            attributes,
            sent_ms: now,
        };
        let content = serde_json::to_vec(&content).map_err(|error| self.error(error.into()))?;
        let visible_ms = now.saturating_add(millis(message.delay()));
        let name = Name {
            visible_ms,
            attempts: 0,
            id: id.clone(),
        };
        self.write(&id, &content, &format!("messages/{}", name.file()))?;
        Ok(id.into())
    }

    /// Leases up to `most` messages.
    pub(crate) fn receive(&self, most: usize, lease: Duration) -> Result<Vec<Received>> {
        let mut received = Vec::new();
        let now = self.now();
        for name in self.names()? {
            if received.len() == most || name.visible_ms > now {
                break;
            }
            let leased = Name {
                visible_ms: now.saturating_add(millis(lease)),
                attempts: name.attempts.saturating_add(1),
                id: name.id.clone(),
            };
            // Another consumer was faster when the file is gone.
            if self.rename(&name, &leased)? {
                received.push(self.read(&leased)?);
            }
        }
        Ok(received)
    }

    fn read(&self, name: &Name) -> Result<Received> {
        let text = fs::read(self.file(name)).map_err(|error| self.error(error))?;
        let content: Content =
            serde_json::from_slice(&text).map_err(|error| self.error(error.into()))?;
        let id = MessageId::from(name.id.as_str());
        let mut attributes = content.attributes;
        let reserved = attributes.remove(wire::RESERVED_ATTRIBUTE);
        let message = wire::restore(content.body.into(), &id, reserved.as_deref())
            .with_attributes(attributes.into_iter().collect());
        let sent_at = SystemTime::UNIX_EPOCH + Duration::from_millis(content.sent_ms);
        let envelope = Envelope::new(id, message)
            .with_attempt(Some(name.attempts))
            .with_sent_at(Some(sent_at));
        Ok(Received::new(envelope, Receipt::new(name.file())))
    }

    pub(crate) fn ack(&self, receipt: &Receipt) -> Result<()> {
        let name = self.leased(receipt)?;
        match fs::remove_file(self.file(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(lost()),
            result => result.map_err(|error| self.error(error)),
        }
    }

    /// Makes the message visible after `after`: a nack, or an extension of the lease. Returns the
    /// receipt that holds from then on.
    pub(crate) fn show_after(&self, receipt: &Receipt, after: Duration) -> Result<String> {
        let name = self.leased(receipt)?;
        let moved = Name {
            visible_ms: self.now().saturating_add(millis(after)),
            ..name.clone()
        };
        if name != moved && !self.rename(&name, &moved)? {
            return Err(lost());
        }
        Ok(moved.file())
    }

    fn leased(&self, receipt: &Receipt) -> Result<Name> {
        let file = receipt.object::<crate::halves::Ticket>()?.file();
        let name = Name::parse(&file).ok_or_else(lost)?;
        if name.visible_ms <= self.now() {
            return Err(lost());
        }
        Ok(name)
    }

    fn names(&self) -> Result<Vec<Name>> {
        let files =
            fs::read_dir(self.folder.join("messages")).map_err(|error| self.error(error))?;
        let mut names: Vec<Name> = files
            .filter_map(|file| Name::parse(file.ok()?.file_name().to_str()?))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn file(&self, name: &Name) -> PathBuf {
        self.folder.join("messages").join(name.file())
    }

    /// `false` when the file is gone.
    fn rename(&self, from: &Name, to: &Name) -> Result<bool> {
        match fs::rename(self.file(from), self.file(to)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.error(error)),
        }
    }

    pub(crate) fn depth(&self) -> Result<Depth> {
        let now = self.now();
        let (mut ready, mut leased, mut delayed, mut oldest) = (0, 0, 0, None);
        for name in self.names()? {
            match (name.visible_ms <= now, name.attempts) {
                (true, _) => ready += 1,
                (false, 0) => delayed += 1,
                // A nack with a delay looks like a lease: nobody can have the message either way.
                (false, _) => leased += 1,
            }
            if let Ok(received) = self.read(&name)
                && let Some(sent_at) = received.envelope.sent_at
            {
                let sent_ms = millis(
                    sent_at
                        .duration_since(SystemTime::UNIX_EPOCH)
                        .unwrap_or_default(),
                );
                oldest = Some(oldest.map_or(sent_ms, |oldest: u64| oldest.min(sent_ms)));
            }
        }
        let age = oldest.map(|sent_ms| Duration::from_millis(now.saturating_sub(sent_ms)));
        Ok(Depth::new(ready, leased, delayed).with_oldest_age(age))
    }

    pub(crate) fn purge(&self) -> Result<()> {
        for name in self.names()? {
            match fs::remove_file(self.file(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.error(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn delete(&self) -> Result<()> {
        fs::remove_dir_all(&*self.folder).map_err(|error| self.error(error))
    }

    fn error(&self, error: io::Error) -> Error {
        let (kind, what) = match error.kind() {
            io::ErrorKind::NotFound => (ErrorKind::NotFound, "does not exist; create it first"),
            io::ErrorKind::PermissionDenied => (
                ErrorKind::PermissionDenied,
                "may not be used; check its owner",
            ),
            io::ErrorKind::StorageFull => (ErrorKind::Throttled, "has no room left; free some"),
            _ => (ErrorKind::Unknown, "cannot be used"),
        };
        Error::new(kind, format!("the queue {} {what} ({error})", self.path()))
            .with_backend("directory")
            .with_source(error)
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::LeaseLost,
        "the lease ran out, or the message was settled before",
    )
    .with_backend("directory")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}
