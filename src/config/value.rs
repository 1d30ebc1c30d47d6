//! Types of option values: each parses from text and says in its error what is allowed.
//!
//! A flag, a line of YAML and a line of `zoo.cfg` all come here, so one value is judged once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oxkeeper_proxy::Word;
use serde::{Deserialize, Deserializer};
use tracing_subscriber::EnvFilter;

/// A whole number in a fixed range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
    pub(crate) fn new(value: u64) -> Option<Self> {
        (MIN..=MAX).contains(&value).then_some(Self(value))
    }

    /// What of the range is nearest.
    pub(crate) fn nearest(value: u64) -> Self {
        Self(value.clamp(MIN, MAX))
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// The number in the type that the rest of the program uses; `MAX` always fits where these are called.
macro_rules! narrow {
    ($($method:ident: $target:ty),+) => {
        impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
            $(pub(crate) fn $method(self) -> $target {
                const { assert!(MAX <= <$target>::MAX as u64) }
                self.0 as $target
            })+
        }
    };
}

narrow!(u16: u16, u32: u32, usize: usize);

impl<const MIN: u64, const MAX: u64> FromStr for Within<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| {
            let bound = if MAX == u64::MAX {
                format!("of at least {MIN}")
            } else {
                format!("from {MIN} to {MAX}")
            };
            format!("`{text}` is not allowed here: give a whole number {bound}")
        })
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Within<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value, or `auto`: computed from other options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Auto<T>(pub(crate) Option<T>);

impl<T: FromStr<Err = String>> FromStr for Auto<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        match text.parse() {
            Ok(value) => Ok(Self(Some(value))),
            Err(problem) => Err(format!("{problem}, or `auto`")),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Auto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("auto"),
        }
    }
}

/// A directory's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl FromStr for Directory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty path is not allowed here: name a directory".to_owned());
        }
        Ok(Self(PathBuf::from(text)))
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// An address to listen on: an IP address, or a host name that is looked up when the server starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(pub(crate) String);

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if bare.is_empty() || bare.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(format!(
                "`{text}` is not allowed here: give an IP address or a host name, without a port"
            ));
        }
        Ok(Self(bare.to_owned()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which four-letter words are answered, beside `srvr`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FourLetterWords {
    /// `None`: all of them.
    pub(crate) allowed: Option<Vec<String>>,
}

impl Default for FourLetterWords {
    fn default() -> Self {
        Self {
            allowed: Some(Vec::new()),
        }
    }
}

impl FourLetterWords {
    pub(crate) fn allow(&mut self, word: &str) {
        if let Some(allowed) = &mut self.allowed {
            allowed.push(word.to_owned());
        }
    }
}

impl FromStr for FourLetterWords {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = Vec::new();
        for word in text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            if word == "*" {
                return Ok(Self { allowed: None });
            }
            if !Word::ALL.iter().any(|known| known.as_str() == word) {
                return Err(format!(
                    "`{word}` is not a four-letter word of this server: give a list like \
                     `ruok, srvr, mntr`, or `*` for all"
                ));
            }
            words.push(word.to_owned());
        }
        Ok(Self {
            allowed: Some(words),
        })
    }
}

impl fmt::Display for FourLetterWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.allowed {
            Some(words) => f.write_str(&words.join(",")),
            None => f.write_str("*"),
        }
    }
}

/// The digest of the administrator who passes every ACL: a user, a colon and the Base64 of a SHA-1.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SuperDigest(pub(crate) Option<String>);

/// Length of a SHA-1 (20 bytes) in Base64.
const SHA1_BASE64_CHARS: usize = 28;

impl FromStr for SuperDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        // The text is not repeated in the error: it may be a password given by mistake.
        let digest = text.split_once(':').map(|(_, digest)| digest);
        match digest.filter(|digest| digest.len() == SHA1_BASE64_CHARS) {
            Some(_) => Ok(Self(Some(text.to_owned()))),
            None => Err(
                "give `USER:` and the Base64 of the SHA-1 of `USER:PASSWORD` (28 characters), or `none`"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for SuperDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "(set)" } else { "none" })
    }
}

impl fmt::Debug for SuperDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which log lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(pub(crate) String);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match EnvFilter::try_new(text) {
            Ok(_) if !text.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(format!(
                "`{text}` is not allowed here: give `error`, `warn`, `info`, `debug` or `trace`, \
                 or levels by module such as `info,oxkeeper_proxy=debug`"
            )),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!(
                "`{text}` is not allowed here: give `text` or `json`"
            )),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Reads any YAML scalar as text and parses that; an empty one counts as not given.
pub(crate) fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused_with_the_range() {
        type Port = Within<0, 65535>;
        assert_eq!("2181".parse::<Port>().unwrap().u16(), 2181);
        for bad in ["65536", "-1", "", "x", "1.5", "0x10"] {
            let problem = bad.parse::<Port>().unwrap_err();
            assert!(problem.contains("from 0 to 65535"), "{problem}");
        }
        let problem = "-1".parse::<Within<0, { u64::MAX }>>().unwrap_err();
        assert!(problem.contains("at least 0"), "{problem}");
    }

    #[test]
    fn auto_stands_for_no_value() {
        type Ticks = Auto<Within<1, 9>>;
        assert_eq!("auto".parse::<Ticks>().unwrap().0, None);
        assert_eq!("3".parse::<Ticks>().unwrap().to_string(), "3");
        assert!("0".parse::<Ticks>().unwrap_err().ends_with("or `auto`"));
    }

    #[test]
    fn words_are_a_list_or_all() {
        let words: FourLetterWords = "ruok, srvr".parse().unwrap();
        assert_eq!(
            words.allowed,
            Some(vec!["ruok".to_owned(), "srvr".to_owned()])
        );
        assert_eq!("ruok,*".parse::<FourLetterWords>().unwrap().allowed, None);
        assert_eq!("".parse::<FourLetterWords>().unwrap().allowed, Some(vec![]));
        for bad in ["ruok srvr", "rouk", "RUOK"] {
            assert!(bad.parse::<FourLetterWords>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_super_digest_is_never_shown() {
        let digest: SuperDigest = "super:UdxDQl4f9v5oITwcAsO9bmWgHSI=".parse().unwrap();
        assert_eq!(format!("{digest} {digest:?}"), "(set) (set)");
        assert!(
            "admin:UdxDQl4f9v5oITwcAsO9bmWgHSI="
                .parse::<SuperDigest>()
                .is_ok()
        );
        let problem = "super:hunter2".parse::<SuperDigest>().unwrap_err();
        assert!(!problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn hosts_have_no_port_and_lose_their_brackets() {
        assert_eq!("[::1]".parse::<Host>().unwrap().0, "::1");
        assert_eq!("zk1.example".parse::<Host>().unwrap().0, "zk1.example");
        assert!("".parse::<Host>().is_err());
        assert!("10.0.0.1 ".parse::<Host>().is_err());
    }
}
