//! What is left after the power went: a disk that forgets what was not synced.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use redb::StorageBackend;
use towpath_core::Message;

use super::{
    record::Record,
    store::{Change, Store},
};

/// Sectors are written whole or not at all, in any order.
const SECTOR: usize = 512;

/// A disk with a cache. When the power goes, any part of what was written since the last sync is on
/// the disk.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is read.
    cached: Vec<u8>,
    /// What survives.
    synced: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Writes and syncs until the power goes.
    left: Option<u64>,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The disk after the power is back.
    fn cut(&self, random: &mut fastrand::Rng) -> Self {
        let state = self.state();
        let mut left = state.synced.clone();
        if random.bool() {
            left.resize(state.cached.len(), 0);
        }
        for &sector in &state.dirty {
            let (start, end) = (sector * SECTOR, (sector + 1) * SECTOR);
            let end = end.min(left.len()).min(state.cached.len());
            if start < end && random.bool() {
                left[start..end].copy_from_slice(&state.cached[start..end]);
            }
        }
        Self(Arc::new(Mutex::new(State {
            cached: left.clone(),
            synced: left,
            ..State::default()
        })))
    }
}

impl State {
    fn step(&mut self) -> Result<(), io::Error> {
        match &mut self.left {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        let start = offset as usize;
        let bytes = state.cached.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.state();
        state.step()?;
        state.cached.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.state();
        state.step()?;
        state.synced = state.cached.clone();
        state.dirty.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state();
        state.step()?;
        let start = offset as usize;
        state.cached[start..start + data.len()].copy_from_slice(data);
        let sectors = start / SECTOR..(start + data.len()).div_ceil(SECTOR);
        state.dirty.extend(sectors);
        Ok(())
    }
}

fn record(number: u64) -> Record {
    let body = number.to_string().repeat(1 + (number as usize * 37) % 400);
    Record::new(&Message::new(body), SystemTime::now()).unwrap()
}

/// Adds and removes until the power goes after `steps`, then checks what is left. Returns whether
/// the power went.
fn run(seed: u64, steps: u64) -> bool {
    let mut random = fastrand::Rng::with_seed(seed);
    let disk = Disk::default();
    let (mut store, _) = Store::open_on(disk.clone()).unwrap();
    disk.state().left = Some(steps);
    let mut kept: BTreeSet<u64> = BTreeSet::new();
    // What a commit that failed would have done: all of it may be there, or nothing.
    let mut added: Vec<u64> = Vec::new();
    let mut removed: Vec<u64> = Vec::new();
    for _ in 0..12 {
        let records: Vec<Record> = (0..random.u64(1..5)).map(record).collect();
        removed = kept
            .iter()
            .copied()
            .filter(|_| random.u8(..) < 80)
            .collect();
        let mut changes: Vec<Change<'_>> = vec![Change::Remove("q", &removed)];
        changes.extend(records.iter().map(|record| Change::Add("q", record)));
        let next = kept
            .last()
            .map_or(0, |last| last + 1)
            .max(added.last().map_or(0, |n| n + 1));
        match store.commit(&changes) {
            Ok(numbers) => {
                kept.retain(|number| !removed.contains(number));
                kept.extend(&numbers);
                added = numbers;
                removed.clear();
            }
            Err(_) => {
                added = (next..next + records.len() as u64).collect();
                break;
            }
        }
    }
    let was_cut = disk.state().left == Some(0);
    drop(store);
    let (_, found) = Store::open_on(disk.cut(&mut random)).unwrap_or_else(|error| {
        panic!("seed {seed}, power cut after {steps} steps: {error}");
    });
    let found: BTreeSet<u64> = found.into_iter().map(|(_, number, _)| number).collect();
    let mut after = kept.clone();
    after.retain(|number| !removed.contains(number));
    after.extend(&added);
    assert!(
        found == kept || found == after,
        "seed {seed}, power cut after {steps} steps: kept {kept:?} or {after:?}, found {found:?}"
    );
    was_cut
}

#[test]
fn a_power_cut_at_any_write_or_sync_loses_no_committed_message_and_halves_no_commit() {
    for seed in 0..2 {
        let mut steps = 0;
        while run(seed * 1_000_003 + steps, steps) {
            steps += 1;
        }
        assert!(steps > 40, "only {steps} steps");
    }
}
