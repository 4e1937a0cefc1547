//! A receiver that is killed (`kill -9`) at each point between a request and its answer, and while
//! its spool is drained: what was answered with 2xx is published.

mod process;
mod receiver;

use std::{
    collections::BTreeSet,
    path::Path,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use libtest_mimic::{Arguments, Failed, Trial};
use process::{Process, post};
use towpath_webhook::dedup::event_key;

/// Where a request is when the process is killed.
const POINTS: [&str; 5] = ["arrived", "before_push", "pushing", "pushed", "answering"];
/// Where the drain is when the next process is killed.
const DRAIN_POINTS: [&str; 2] = ["publishing", "published"];

fn main() -> ExitCode {
    if std::env::var_os(receiver::FOLDER).is_some() {
        receiver::run();
        return ExitCode::SUCCESS;
    }
    let mut trials = Vec::new();
    for point in POINTS {
        for drain_point in DRAIN_POINTS {
            let name = format!("killed_{point}_and_then_{drain_point}_loses_nothing");
            trials.push(Trial::test(name, move || killed_at(point, drain_point)));
        }
    }
    let name = "killed_at_any_time_under_load_loses_nothing";
    trials.push(Trial::test(name, killed_under_load));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn killed_at(point: &str, drain_point: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let ids: Vec<String> = (1..=6).map(|n| n.to_string()).collect();

    // The queue is down, so that events go to the spool; the fourth is the last.
    let mut down = Process::start(folder.path(), "down", &format!("{point}:4"));
    let port = down.port();
    let confirmed: Vec<String> = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let is_confirmed = |id: &&String| post(port, id).is_some_and(|status| status == 202);
            ids.iter().filter(is_confirmed).cloned().collect()
        });
        down.until(&format!("at {point}"));
        down.kill();
        sending.join()
    })
    .map_err(|_| "the sender panicked")?;
    expect(confirmed.as_slice(), &ids[..3])?;

    // The queue is back, and the process is killed in the middle of the drain.
    let mut draining = Process::start(folder.path(), "up", &format!("{drain_point}:2"));
    draining.until(&format!("at {drain_point}"));
    draining.kill();

    let mut last = Process::start(folder.path(), "up", "nowhere:0");
    let port = last.port();
    last.until("drained");
    let published = ledger(folder.path());
    for id in &confirmed {
        if !published.contains(&key(id)) {
            return Err(format!("event {id} was confirmed and is lost").into());
        }
    }
    // The provider sends again what was not confirmed.
    for id in ids.iter().filter(|id| !confirmed.contains(id)) {
        expect(&post(port, id), &Some(202))?;
    }
    last.until("drained");
    last.kill();
    let mut seen = BTreeSet::new();
    let mut first_times = ledger(folder.path());
    first_times.retain(|key| seen.insert(key.clone()));
    let expected: Vec<String> = ids.iter().map(|id| key(id)).collect();
    expect(&first_times, &expected)
}

fn killed_under_load() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let confirmed = Mutex::new(BTreeSet::new());
    for round in 0..4 {
        let mut down = Process::start(folder.path(), "down", "nowhere:0");
        let port = down.port();
        let answers = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for sender in 0..8 {
                let (confirmed, answers) = (&confirmed, &answers);
                scope.spawn(move || {
                    for n in 0.. {
                        let id = format!("{round}-{sender}-{n}");
                        if post(port, &id) != Some(202) {
                            break;
                        }
                        confirmed.lock().unwrap().insert(key(&id));
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while answers.load(Ordering::Relaxed) < 40 + round * 7 {
                std::thread::yield_now();
            }
            down.kill();
        });
    }
    let mut last = Process::start(folder.path(), "up", "nowhere:0");
    last.until("drained");
    last.kill();
    let published: BTreeSet<String> = ledger(folder.path()).into_iter().collect();
    let confirmed = confirmed.into_inner()?;
    let lost: Vec<&String> = confirmed.difference(&published).collect();
    if !lost.is_empty() {
        return Err(format!("{} of {} confirmed are lost", lost.len(), confirmed.len()).into());
    }
    // One request of each sender was on its way when the process died: it may be there.
    let unconfirmed = published.difference(&confirmed).count();
    if unconfirmed > 4 * 8 {
        return Err(format!("{unconfirmed} that nobody confirmed").into());
    }
    Ok(())
}

fn key(id: &str) -> String {
    event_key("github", id).to_string()
}

fn ledger(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(receiver::LEDGER)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn expect<T: PartialEq + std::fmt::Debug + ?Sized>(actual: &T, expected: &T) -> Result<(), Failed> {
    if actual == expected {
        Ok(())
    } else {
        Err(format!("expected {expected:?}, got {actual:?}").into())
    }
}
