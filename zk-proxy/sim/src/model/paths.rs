//! Which paths a znode may have, and what is above it.

/// The path above; of the root, the root.
pub fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

/// The last component.
pub fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// What create, setData, setACL and check ask of a path.
pub(super) fn is_valid(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let component_is_valid = |name: &str| !matches!(name, "" | "." | "..");
    rest.split('/').all(component_is_valid) && !rest.chars().any(is_forbidden)
}

fn is_forbidden(character: char) -> bool {
    let code = u32::from(character);
    matches!(code, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..)
}
