//! String attributes that travel beside the body.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// The attributes of a message: names to values, ordered by name.
///
/// They map one to one to the cloud's own attributes, so that any language can read and write
/// them. At least eight attributes work on every backend. Cloning is cheap, and an empty set
/// allocates nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Option<Arc<BTreeMap<String, String>>>);

impl Attributes {
    /// No attributes.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Sets `name` to `value` and returns the value that it replaces.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) -> Option<String> {
        Arc::make_mut(self.0.get_or_insert_default()).insert(name.into(), value.into())
    }

    /// Removes `name` and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let map = Arc::make_mut(self.0.as_mut()?);
        let value = map.remove(name);
        if map.is_empty() {
            self.0 = None;
        }
        value
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Names and values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .flat_map(|map| map.iter())
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut attributes = Self::new();
        attributes.extend(pairs);
        attributes
    }
}

impl<N: Into<String>, V: Into<String>> Extend<(N, V)> for Attributes {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.insert(name, value);
        }
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_do_not_share_edits() {
        let first = Attributes::from_iter([("a", "1")]);
        let mut second = first.clone();
        second.insert("a", "2");
        assert_eq!(first.get("a"), Some("1"));
        assert_eq!(second.get("a"), Some("2"));
    }

    #[test]
    fn removing_the_last_one_equals_empty() {
        let mut attributes = Attributes::from_iter([("a", "1")]);
        assert_eq!(attributes.remove("a").as_deref(), Some("1"));
        assert_eq!(attributes, Attributes::new());
        assert_eq!(attributes.remove("a"), None);
    }
}
