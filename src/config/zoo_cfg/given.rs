//! Values of `zoo.cfg`, read as ZooKeeper reads them. What it starts with, this server starts with too;
//! where a value then means nothing, the operator is told what counts instead.

use std::fmt::Display;
use std::str::FromStr;

use super::Note;
use crate::config::options::{Count, Millis, PacketBytes, Port};
use crate::config::value::{Auto, Directory, FourLetterWords, SuperDigest};

/// What a text says.
pub(super) enum Given<T> {
    As(T),
    /// Something else counts, and why.
    Otherwise(T, String),
    /// The default counts, and why.
    Default(String),
}

type Read<T> = Result<Given<T>, String>;

pub(super) fn parsed<T>(text: &str) -> Read<T>
where
    T: FromStr,
    T::Err: Display,
{
    let value = text.parse().map_err(|problem: T::Err| problem.to_string());
    value.map(Given::As)
}

/// As Java reads integers of system properties: decimal, or hexadecimal after `0x` or `#`.
fn integer(text: &str) -> Option<i64> {
    let digits = ["0x", "0X", "#"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    let value = match digits {
        Some(digits) => i32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    value.ok().map(i64::from)
}

fn no_integer<T>(text: &str) -> Given<T> {
    Given::Default(format!(
        "`{text}` is no integer, so the default counts, as in ZooKeeper"
    ))
}

/// To ZooKeeper port 0 is none.
pub(super) fn port(text: &str) -> Read<Port> {
    match text {
        "0" => Ok(Given::Default("0 is no port to ZooKeeper".to_owned())),
        _ => parsed(text),
    }
}

/// A limit; there is none if it is not positive.
pub(super) fn count(text: &str) -> Read<Count> {
    match text.parse::<i32>() {
        Ok(..=0) => parsed("0"),
        _ => parsed(text),
    }
}

/// The same, of a system property, which ZooKeeper does not insist on.
pub(super) fn property_count(text: &str) -> Read<Count> {
    match integer(text) {
        Some(value) => count(&value.to_string()),
        None => Ok(no_integer(text)),
    }
}

pub(super) fn packet_bytes(text: &str) -> Read<PacketBytes> {
    let Some(value) = integer(text) else {
        return Ok(no_integer(text));
    };
    let wanted = u64::try_from(value).unwrap_or(0);
    Ok(match PacketBytes::new(wanted) {
        Some(bytes) => Given::As(bytes),
        None => {
            let nearest = PacketBytes::nearest(wanted);
            Given::Otherwise(nearest, format!("{text} is out of range, {nearest} counts"))
        }
    })
}

pub(super) fn interval(text: &str) -> Read<Millis> {
    let value = integer(text).and_then(|value| u64::try_from(value).ok());
    Ok(match value.and_then(Millis::new) {
        Some(value) => Given::As(value),
        None => Given::Default(format!("`{text}` is no time, so the default counts")),
    })
}

/// ZooKeeper's −1 for "derive it from tickTime"; another negative one bounds nothing.
pub(super) fn session_timeout_min(text: &str) -> Read<Auto<Millis>> {
    match text.parse::<i32>() {
        Ok(-1) => Ok(Given::As(Auto(None))),
        Ok(..=0) => parsed("1"),
        _ => parsed(text),
    }
}

pub(super) fn session_timeout_max(text: &str) -> Read<Auto<Millis>> {
    match text {
        "-1" => Ok(Given::As(Auto(None))),
        _ => parsed(text),
    }
}

pub(super) fn words(text: &str) -> Read<FourLetterWords> {
    let (known, unknown): (Vec<&str>, Vec<&str>) = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .partition(|word| word.parse::<FourLetterWords>().is_ok());
    let words = known.join(",").parse()?;
    Ok(if unknown.is_empty() {
        Given::As(words)
    } else {
        let unknown = unknown.join("`, `");
        Given::Otherwise(words, format!("`{unknown}` is not answered by this server"))
    })
}

/// The folder in `dataDir` that this server's data is in.
const DATA_FOLDER: &str = "oxkeeper";

pub(super) fn directory(text: &str) -> Read<Directory> {
    let Directory(path) = text.parse()?;
    Ok(Given::As(Directory(path.join(DATA_FOLDER))))
}

/// Only `yes` is yes.
pub(super) fn yes(text: &str) -> Read<bool> {
    Ok(one_of(text, "yes", "no", text == "yes"))
}

/// Only `true` is true, in any case.
pub(super) fn boolean(text: &str) -> Read<bool> {
    let lower = text.to_ascii_lowercase();
    Ok(one_of(&lower, "true", "false", lower == "true"))
}

/// Only `false` is false.
pub(super) fn unless_false(text: &str) -> Read<bool> {
    Ok(one_of(text, "true", "false", text != "false"))
}

fn one_of(text: &str, yes: &str, no: &str, value: bool) -> Given<bool> {
    if text == yes || text == no {
        return Given::As(value);
    }
    let counts = if value { yes } else { no };
    let note = format!("`{text}` counts as `{counts}`, as in ZooKeeper");
    Given::Otherwise(value, note)
}

pub(super) fn super_digest(text: &str) -> Read<SuperDigest> {
    Ok(match text.parse() {
        Ok(digest) => Given::As(digest),
        // Not repeated: it may be a password given by mistake.
        Err(_) => Given::Default("nobody can prove to be that; there is no super user".to_owned()),
    })
}

/// Serving without what is asked for would let in whom the operator wants out.
pub(super) fn enforcement(text: &str) -> Result<Note, String> {
    match text.to_ascii_lowercase().as_str() {
        "false" | "no" => Ok(None),
        "true" | "yes" => Err("authentication cannot be enforced yet: \
                               remove this to serve clients that do not authenticate too"
            .to_owned()),
        _ => Err(format!(
            "`{text}` is not allowed here: give `true` or `false`"
        )),
    }
}
