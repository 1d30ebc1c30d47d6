//! Which paths a znode may have. ZooKeeper judges UTF-16 units; so does this, on UTF-8.

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path does not start with '/'")]
    Relative,
    #[error("the path ends with '/'")]
    TrailingSlash,
    #[error("the path has an empty component")]
    EmptyComponent,
    #[error("the path has a '.' or '..' component")]
    DotComponent,
    #[error("the path contains {0:?}")]
    Character(char),
}

/// Whether `path` can name a znode, as create, setData, setACL and check ask.
pub fn validate(path: &str) -> Result<(), PathError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(if path.is_empty() {
            PathError::Empty
        } else {
            PathError::Relative
        });
    };
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    rest.split('/').try_for_each(validate_component)?;
    match rest.chars().find(|&character| is_forbidden(character)) {
        Some(character) => Err(PathError::Character(character)),
        None => Ok(()),
    }
}

fn validate_component(component: &str) -> Result<(), PathError> {
    match component {
        "" => Err(PathError::EmptyComponent),
        "." | ".." => Err(PathError::DotComponent),
        _ => Ok(()),
    }
}

/// A character beyond U+FFFF is a pair of surrogates in UTF-16, and those are forbidden.
fn is_forbidden(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_valid() {
        for path in [
            "/",
            "/a",
            "/a/b",
            "/a..",
            "/..a",
            "/a b",
            "/€",
            "/...",
            "/a\u{a0}",
            "/\u{d7ff}",
            "/\u{ffef}",
        ] {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn the_shape_is_checked() {
        assert_eq!(validate(""), Err(PathError::Empty));
        assert_eq!(validate("a"), Err(PathError::Relative));
        assert_eq!(validate("/a/"), Err(PathError::TrailingSlash));
        assert_eq!(validate("//"), Err(PathError::TrailingSlash));
        assert_eq!(validate("//a"), Err(PathError::EmptyComponent));
        assert_eq!(validate("/a//b"), Err(PathError::EmptyComponent));
        for path in ["/.", "/..", "/a/.", "/a/../b", "/./a"] {
            assert_eq!(validate(path), Err(PathError::DotComponent), "{path:?}");
        }
    }

    #[test]
    fn each_forbidden_range_is_forbidden_to_its_ends() {
        let forbidden = [
            '\0',
            '\u{1}',
            '\u{1f}',
            '\u{7f}',
            '\u{9f}',
            '\u{e000}',
            '\u{f8ff}',
            '\u{fff0}',
            '\u{ffff}',
            '\u{10000}',
            '😀',
            '\u{10ffff}',
        ];
        for character in forbidden {
            assert_eq!(
                validate(&format!("/a{character}")),
                Err(PathError::Character(character))
            );
        }
        for character in ['\u{20}', '\u{7e}', '\u{a0}', '\u{f900}', '\u{ffef}'] {
            assert_eq!(validate(&format!("/a{character}")), Ok(()), "{character:?}");
        }
    }
}
