//! The corpora of the fuzz targets, through the same functions.

use std::path::Path;

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

#[test]
fn every_corpus_and_every_target_has_a_parser() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let known = TARGETS.map(|(name, _)| name);
    for folder in ["corpus", "fuzz_targets"] {
        for entry in std::fs::read_dir(fuzz.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(known.contains(&name), "{}", path.display());
        }
    }
}
