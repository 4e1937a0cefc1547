//! The file: what is written in one transaction, and what is read back.

use std::{path::Path, sync::Arc};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{
    SpoolError,
    record::{self, Record},
    tally::Entry,
};

/// Messages by queue and number. Numbers grow over all queues and are never used twice while a
/// message is there.
const MESSAGES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("messages");

#[derive(Debug)]
pub(super) struct Store {
    database: Database,
    next: u64,
}

/// What a transaction does.
#[derive(Debug)]
pub(super) enum Change<'a> {
    Add(&'a str, &'a Record),
    Remove(&'a str, &'a [u64]),
}

/// Messages that were found when the file was opened.
pub(super) type Found = Vec<(Arc<str>, u64, Entry)>;

impl Store {
    /// Opens the file, or makes it, and reads what is in it.
    pub(super) fn open(path: &Path) -> Result<(Self, Found), SpoolError> {
        let is_new = !path.exists();
        let opened = Database::create(path).map_err(|error| open_error(path, error))?;
        let store = Self::start(opened)?;
        if is_new {
            // A file whose name is not on the disk is lost with all that is in it.
            sync_folder(path)?;
        }
        Ok(store)
    }

    #[cfg(test)]
    pub(super) fn open_on(backend: impl redb::StorageBackend) -> Result<(Self, Found), SpoolError> {
        Self::start(redb::Builder::new().create_with_backend(backend)?)
    }

    fn start(database: Database) -> Result<(Self, Found), SpoolError> {
        let mut store = Self { database, next: 0 };
        store.write(|_, _| Ok(()))?;
        let mut found = Vec::new();
        let mut name: Arc<str> = Arc::from("");
        let reading = store.database.begin_read()?;
        for entry in reading.open_table(MESSAGES)?.iter()? {
            let (key, value) = entry?;
            let (queue, number) = key.value();
            let value = value.value();
            let at = record::spooled_at(value).map_err(|why| unreadable(queue, number, why))?;
            if &*name != queue {
                name = Arc::from(queue);
            }
            let entry = Entry {
                bytes: value.len() as u64,
                at,
                is_refused: false,
            };
            found.push((Arc::clone(&name), number, entry));
            store.next = store.next.max(number + 1);
        }
        Ok((store, found))
    }

    /// Makes all changes or none of them. `Ok` means that they are on the disk; the numbers of the
    /// messages that were added, in their order.
    pub(super) fn commit(&mut self, changes: &[Change<'_>]) -> Result<Vec<u64>, SpoolError> {
        self.write(|table, next| {
            let mut numbers = Vec::new();
            for change in changes {
                match change {
                    Change::Add(queue, record) => {
                        let mut place = table.insert_reserve((*queue, *next), record.len())?;
                        record.write(place.as_mut());
                        numbers.push(*next);
                        *next += 1;
                    }
                    Change::Remove(queue, numbers) => {
                        for number in *numbers {
                            table.remove((*queue, *number))?;
                        }
                    }
                }
            }
            Ok(numbers)
        })
    }

    fn write<T>(
        &mut self,
        change: impl FnOnce(&mut redb::Table<'_, (&str, u64), &[u8]>, &mut u64) -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let mut next = self.next;
        let mut writing = self.database.begin_write()?;
        writing.set_durability(Durability::Immediate)?;
        // Strangers choose the bytes that are written. With one phase a checksum that is not
        // cryptographic decides whether a torn commit counts; with two it is the order of fsyncs.
        writing.set_two_phase_commit(true);
        let done = {
            let mut table = writing.open_table(MESSAGES)?;
            change(&mut table, &mut next)?
        };
        writing.commit()?;
        self.next = next;
        Ok(done)
    }

    /// The messages with these numbers.
    pub(super) fn read(
        &self,
        queue: &str,
        numbers: &[u64],
    ) -> Result<Vec<(u64, towpath_core::Message)>, SpoolError> {
        let reading = self.database.begin_read()?;
        let table = reading.open_table(MESSAGES)?;
        let mut messages = Vec::with_capacity(numbers.len());
        for &number in numbers {
            if let Some(value) = table.get((queue, number))? {
                let message =
                    record::message(value.value()).map_err(|why| unreadable(queue, number, why))?;
                messages.push((number, message));
            }
        }
        Ok(messages)
    }
}

fn unreadable(queue: &str, number: u64, why: String) -> SpoolError {
    SpoolError::Unreadable {
        queue: queue.to_owned(),
        number,
        why,
    }
}

fn open_error(path: &Path, error: redb::DatabaseError) -> SpoolError {
    let path = path.to_owned();
    let why = match &error {
        redb::DatabaseError::DatabaseAlreadyOpen => return SpoolError::InUse { path },
        redb::DatabaseError::Storage(redb::StorageError::Io(io))
            if io.kind() != std::io::ErrorKind::InvalidData =>
        {
            format!("{io}; it needs a folder that exists and can be written")
        }
        other => format!(
            "{other}; it is no spool, or it is damaged: move it away to start with an empty one, \
             and keep it, for it may hold accepted events"
        ),
    };
    SpoolError::Open {
        path,
        why,
        source: Some(Arc::new(error.into())),
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<(), SpoolError> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| SpoolError::Open {
        path: path.to_owned(),
        why: format!("its folder cannot be synced: {error}"),
        source: None,
    })
}

/// Elsewhere a folder cannot be opened, and the file system keeps names by itself.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), SpoolError> {
    Ok(())
}
