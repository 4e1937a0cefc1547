//! All mistakes of a configuration, told at once.

use serde::de::DeserializeOwned;
use toml::{Table, Value};
use towpath_core::{
    Error, ErrorKind,
    config::{field_names, nearest},
};

/// What is wrong, each with its place.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Notes what is wrong at `place`, for instance `sources.github.path`.
    pub(crate) fn add(&mut self, place: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{place}: {what}"));
    }

    /// The value, or its error as a mistake.
    pub(crate) fn take<T>(&mut self, place: &str, result: Result<T, Error>) -> Option<T> {
        result
            .map_err(|error| self.add(place, error.message()))
            .ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` when nothing is wrong.
    pub(crate) fn into_result(self) -> Result<(), Error> {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::new(ErrorKind::InvalidConfig, one.as_str())),
            many => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{} mistakes:\n- {}", many.len(), many.join("\n- ")),
            )),
        }
    }

    /// Reads a struct from the table at `place`. Every unknown key is told, with the nearest right
    /// one; then the first value that is wrong.
    pub(crate) fn read<T: DeserializeOwned>(&mut self, place: &str, mut table: Table) -> Option<T> {
        let known = field_names::<T>();
        self.drop_unknown(place, &mut table, known);
        serde_path_to_error::deserialize(Value::Table(table))
            .map_err(|error| {
                let path = error.path().to_string();
                let place = match path.as_str() {
                    "." => place.to_owned(),
                    path => format!("{place}.{path}"),
                };
                self.add(&place, error.inner().message());
            })
            .ok()
    }

    /// Takes keys out of `table` that are not `known`, and tells them.
    pub(crate) fn drop_unknown(&mut self, place: &str, table: &mut Table, known: &[&str]) {
        table.retain(|key, _| {
            let is_known = known.contains(&key);
            if !is_known {
                let place = match place {
                    "" => key.to_owned(),
                    place => format!("{place}.{key}"),
                };
                self.add(&place, unknown("key", key, known));
            }
            is_known
        });
    }
}

/// `unknown key "pth"; did you mean "path"? (known: ..)`
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint =
        nearest(name, known).map_or(String::new(), |name| format!("; did you mean {name:?}?"));
    format!(
        "unknown {what} {name:?}{hint} (known: {})",
        known.join(", ")
    )
}
