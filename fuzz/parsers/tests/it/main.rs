//! The corpora of the fuzz targets, through the same functions.

use std::{fs::File, io::Read, path::Path};

use flate2::read::GzDecoder;
use tar::Archive;
use towpath_fuzz_parsers::TARGETS;

#[test]
fn every_input_of_every_corpus_is_parsed_without_a_panic() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (name, target) in TARGETS {
        let folder = corpora.join(name);
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let mut inputs = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            let result = std::panic::catch_unwind(|| target(&data));
            assert!(result.is_ok(), "{}", path.display());
            inputs += 1;
        }
        assert!(inputs >= 2, "{name} has {inputs} inputs");
    }
}

/// What libFuzzer found, each input of which takes a way through the parser that no other takes.
#[test]
fn every_input_that_was_found_is_parsed_without_a_panic() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../found");
    for (name, target) in TARGETS {
        let path = found.join(name).with_extension("tar.gz");
        let file = File::open(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let mut archive = Archive::new(GzDecoder::new(file));
        let mut inputs = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let place = entry.path().unwrap().display().to_string();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            let result = std::panic::catch_unwind(|| target(&data));
            assert!(result.is_ok(), "{place}");
            inputs += usize::from(entry.header().entry_type().is_file());
        }
        assert!(inputs >= 30, "{name} has {inputs} inputs");
    }
}

#[test]
fn every_corpus_and_every_target_has_a_parser() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let known = TARGETS.map(|(name, _)| name);
    for folder in ["corpus", "found", "fuzz_targets"] {
        for entry in std::fs::read_dir(fuzz.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let name = name.split('.').next().unwrap_or(name);
            assert!(known.contains(&name), "{}", path.display());
        }
    }
}

/// A fuzzer without feedback, for whoever has no libFuzzer: changes to the inputs, from fixed seeds.
#[test]
fn what_is_near_the_corpora_is_parsed_without_a_panic() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (name, target) in TARGETS {
        let inputs: Vec<Vec<u8>> = std::fs::read_dir(corpora.join(name))
            .unwrap()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect();
        for seed in 0..3_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut data = random.choice(&inputs).cloned().unwrap_or_default();
            for _ in 0..random.usize(1..6) {
                change(&mut data, &inputs, &mut random);
            }
            let result = std::panic::catch_unwind(|| target(&data));
            assert!(
                result.is_ok(),
                "{name}: {:?}",
                String::from_utf8_lossy(&data)
            );
        }
    }
}

fn change(data: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut fastrand::Rng) {
    let at = random.usize(..=data.len());
    let end = random.usize(at..=data.len().min(at + 16));
    match random.u8(..6) {
        0 => drop(data.drain(at..end)),
        1 => data.insert(at, random.u8(..)),
        2 => data.insert(
            at,
            *random.choice(b"\"{}[]:,=;\\\n\r-0aZ%/?&").unwrap_or(&0),
        ),
        3 => {
            let part = data[at..end].to_vec();
            let to = random.usize(..=data.len());
            data.splice(to..to, part);
        }
        4 => {
            let other = random.choice(inputs).cloned().unwrap_or_default();
            let from = random.usize(..=other.len());
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        _ => data[at..end]
            .iter_mut()
            .for_each(|byte| *byte ^= 1 << random.u8(..8)),
    }
}
