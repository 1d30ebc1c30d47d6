//! Record keys as paths.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A record's key. Any text: which paths are well formed is for the front end to say.
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

impl Path {
    pub fn root() -> Self {
        Self::from("/")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// See [`parent_of`].
    pub fn parent(&self) -> Option<&str> {
        parent_of(&self.0)
    }

    /// See [`name_of`].
    pub fn name(&self) -> &str {
        name_of(&self.0)
    }
}

/// The path above: `/a/b` → `/a`, `/a` → `/`, `/` and a text without slash → `None`.
pub fn parent_of(path: &str) -> Option<&str> {
    match path.rfind('/') {
        None => None,
        Some(0) if path.len() == 1 => None,
        Some(0) => Some("/"),
        Some(at) => Some(&path[..at]),
    }
}

/// The last component: what a parent lists this record under.
pub fn name_of(path: &str) -> &str {
    match path.rfind('/') {
        None => path,
        Some(at) => &path[at + 1..],
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl From<String> for Path {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl Deref for Path {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_and_names_follow_the_last_slash() {
        assert_eq!(parent_of("/a/b"), Some("/a"));
        assert_eq!(parent_of("/a"), Some("/"));
        assert_eq!(parent_of("/"), None);
        assert_eq!(parent_of("foo"), None);
        assert_eq!(parent_of("foo/bar"), Some("foo"));
        assert_eq!(parent_of("/a/"), Some("/a"));
        assert_eq!(name_of("/a/b"), "b");
        assert_eq!(name_of("/a/"), "");
    }
}
