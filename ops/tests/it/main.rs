//! The operator's page, asked as a program asks and in a real browser.
#![allow(missing_docs, clippy::print_stderr)]

mod access;
mod actions;
mod browser;
mod pages;
mod support;
