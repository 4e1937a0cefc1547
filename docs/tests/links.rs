//! What the documents point at is there.
#![allow(missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pulldown_cmark::{Event, Parser, Tag};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Markdown files that git knows, or would know.
fn documents() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.md",
        ])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("names are text");
    let files: Vec<PathBuf> = text.lines().map(|name| root().join(name)).collect();
    assert!(files.len() > 20, "{files:?}");
    files.into_iter().filter(|file| file.exists()).collect()
}

/// What a document links to and shows, as far as it is in the repository.
fn targets(text: &str) -> Vec<String> {
    Parser::new(text)
        .filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(dest_url)
            }
            _ => None,
        })
        .map(|url| url.split('#').next().unwrap_or_default().to_owned())
        .filter(|url| !url.is_empty() && !url.contains(':') && !is_item(url))
        .collect()
}

/// Whether it is the path of a Rust item, in documents that rustdoc reads too.
fn is_item(url: &str) -> bool {
    url.contains("::") || !url.contains(['/', '.'])
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("it can be read");
        let folder = document.parent().expect("it is in a folder");
        for target in targets(&text) {
            if !folder.join(&target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_summary_has_every_chapter() {
    let book = root().join("docs/src");
    let summary = fs::read_to_string(book.join("SUMMARY.md")).expect("it can be read");
    let listed: BTreeSet<PathBuf> = targets(&summary).iter().map(|t| book.join(t)).collect();
    let chapters: BTreeSet<PathBuf> = documents()
        .into_iter()
        .filter(|file| file.starts_with(&book) && !file.ends_with("SUMMARY.md"))
        .collect();
    assert_eq!(listed, chapters);
}

#[test]
fn what_a_chapter_includes_is_there() {
    for document in documents() {
        let text = fs::read_to_string(&document).expect("it can be read");
        for rest in text.split("{{#include ").skip(1) {
            let file = rest.split("}}").next().unwrap_or_default();
            let folder = document.parent().expect("it is in a folder");
            assert!(folder.join(file).exists(), "{}: {file}", document.display());
        }
    }
}
