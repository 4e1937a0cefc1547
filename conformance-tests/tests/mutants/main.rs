//! The cases are proved by backends with one bug each: every bug must be found by a case, and every
//! case must find a bug.
#![allow(missing_docs, clippy::print_stdout)]

mod admin;
mod backend;
mod bug;
mod consumer;
mod producer;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use backend::{Mutant, lock};
use bug::{BUGS, Bug};
use towpath_conformance::{Outcome, cases, run_case};

/// The names of the cases that fail on a queue of `profile` with `bug`.
fn failures(bug: Bug, profile: &'static str) -> Vec<(&'static str, String)> {
    let harness = Arc::new(Mutant::new(bug, profile));
    cases()
        .into_iter()
        .filter_map(|case| match run_case(harness.clone(), case).outcome {
            Outcome::Failed { failure } => Some((case.name, failure)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_backend_without_a_bug_passes() {
    for profile in ["strict", "sqs", "sqs-fifo", "pubsub"] {
        let failures = failures(Bug::Nothing, profile);
        assert!(failures.is_empty(), "{profile}: {failures:#?}");
    }
}

#[test]
fn every_bug_is_found_and_every_case_finds_one() {
    let next = AtomicUsize::new(0);
    let kills: Mutex<BTreeMap<usize, Vec<&'static str>>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((bug, profile)) = BUGS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let at = BUGS.iter().position(|(one, _)| one == bug).unwrap();
                    let failed = failures(*bug, profile).into_iter().map(|(name, _)| name);
                    lock(&kills).insert(at, failed.collect());
                }
            });
        }
    });
    let kills = lock(&kills);
    let mut by_case: BTreeMap<&str, usize> = cases().iter().map(|case| (case.name, 0)).collect();
    let mut survivors = Vec::new();
    for (at, killers) in &*kills {
        let (bug, profile) = BUGS[*at];
        println!(
            "{bug:?} ({profile}): {} cases: {}",
            killers.len(),
            killers.join(", ")
        );
        if killers.is_empty() {
            survivors.push(bug);
        }
        for name in killers {
            *by_case.entry(name).or_default() += 1;
        }
    }
    println!();
    for (name, count) in &by_case {
        println!("{name}: finds {count}");
    }
    let idle: Vec<_> = by_case
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(name, _)| *name)
        .collect();
    println!(
        "mutants={} killed={} cases={}",
        BUGS.len(),
        BUGS.len() - survivors.len(),
        by_case.len()
    );
    assert!(survivors.is_empty(), "no case finds {survivors:?}");
    assert!(idle.is_empty(), "cases that find no bug: {idle:#?}");
}
