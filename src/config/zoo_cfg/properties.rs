//! Java's format of properties.

pub(super) struct Property {
    /// Where it starts, from 1.
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: String,
}

/// The properties of a Java properties file, in order: `key=value`, `key: value` or `key value`,
/// comments after `#` or `!`, lines joined by a `\` at the end.
pub(super) fn properties(text: &str) -> Vec<Property> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let mut logical = first.trim().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim()),
                None => break,
            }
        }
        let (key, value) = split_property(&logical);
        found.push(Property {
            line: index + 1,
            key,
            value,
        });
    }
    found
}

/// An odd number of backslashes at the end; an even one is backslashes meant as such.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn split_property(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim();
    (unescape(key), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            plain.extend(chars.next());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_three_separators_joined_lines_and_escapes() {
        let found =
            properties("a=1\nb : 2\n c\t3\n! no\n#no=1\nd=x,\\\n   y\ne=C:\\\\dir\nf\\=g=h\ni\n");
        let pairs: Vec<_> = found
            .iter()
            .map(|p| (p.line, p.key.as_str(), p.value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                (1, "a", "1"),
                (2, "b", "2"),
                (3, "c", "3"),
                (6, "d", "x,y"),
                (8, "e", "C:\\dir"),
                (9, "f=g", "h"),
                (10, "i", ""),
            ]
        );
    }
}
