//! Each example runs and prints what its page says.
#![allow(missing_docs, clippy::print_stderr)]

mod clouds;
mod lambda;
mod push;

use std::{fs, path::Path, process::Command};

use assert_cmd::cargo::cargo_bin;

/// What the example prints.
fn run(name: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(cargo_bin(name))
        .env_remove("ORDERS_URL")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {text}\n{errors}");
    text
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// What `README.md` says that the example of this number prints.
fn promised(number: &str) -> String {
    let readme = read("README.md");
    let section = readme.split(&format!("\n{number} ")).nth(1).unwrap();
    let block = section.split("```text\n").nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

#[test]
fn hello_prints_what_its_page_says() {
    assert_eq!(run("hello", &[]), promised("01"));
}

/// The worker handles several messages at once, so any of its lines may be first.
#[test]
fn the_worker_prints_what_its_page_says() {
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(run("worker", &[])), sorted(promised("02")));
}

#[test]
fn the_redrive_prints_what_its_page_says() {
    assert_eq!(run("redrive", &[]), promised("08"));
}

#[test]
fn every_example_is_listed() {
    let readme = read("README.md");
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_example = name.ends_with(".rs") || entry.path().join("Cargo.toml").exists();
        if is_example {
            assert!(readme.contains(&format!("]({name})")), "{name}");
        }
    }
    for number in 1..=9 {
        assert!(readme.contains(&format!("| [{number:02} ")), "{number}");
    }
}
