//! Jute, as little of it as the tests need: big-endian numbers, length-prefixed bytes
//! where -1 means null, vectors with a count.

use thiserror::Error;

/// Why bytes are not the record that was expected.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum JuteError {
    #[error("record ends {missing} bytes early at offset {at}")]
    Short { at: usize, missing: usize },
    #[error("length {0} is negative")]
    NegativeLength(i32),
    #[error("string is not UTF-8")]
    NotUtf8,
    #[error("null where a value is required")]
    Null,
    #[error("{0} bytes after the end of the record")]
    Trailing(usize),
}

/// Builds a record.
#[derive(Debug, Default, Clone)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bool(mut self, v: bool) -> Self {
        self.0.push(u8::from(v));
        self
    }

    pub fn int(mut self, v: i32) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    pub fn long(mut self, v: i64) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    pub fn raw(mut self, v: &[u8]) -> Self {
        self.0.extend_from_slice(v);
        self
    }

    pub fn buffer(self, v: Option<&[u8]>) -> Self {
        match v {
            None => self.int(-1),
            Some(bytes) => self.int(bytes.len() as i32).raw(bytes),
        }
    }

    pub fn string(self, v: Option<&str>) -> Self {
        self.buffer(v.map(str::as_bytes))
    }

    /// A vector; `None` is jute's null list.
    pub fn vector<T>(self, items: Option<&[T]>, each: impl Fn(Self, &T) -> Self) -> Self {
        match items {
            None => self.int(-1),
            Some(items) => items.iter().fold(self.int(items.len() as i32), each),
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes a record apart.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn remaining(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], JuteError> {
        let left = self.bytes.len() - self.at;
        if n > left {
            return Err(JuteError::Short {
                at: self.at,
                missing: n - left,
            });
        }
        let slice = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(slice)
    }

    pub fn bool(&mut self) -> Result<bool, JuteError> {
        Ok(self.take(1)?[0] != 0)
    }

    pub fn int(&mut self) -> Result<i32, JuteError> {
        let mut raw = [0; 4];
        raw.copy_from_slice(self.take(4)?);
        Ok(i32::from_be_bytes(raw))
    }

    pub fn long(&mut self) -> Result<i64, JuteError> {
        let mut raw = [0; 8];
        raw.copy_from_slice(self.take(8)?);
        Ok(i64::from_be_bytes(raw))
    }

    pub fn buffer(&mut self) -> Result<Option<Vec<u8>>, JuteError> {
        match self.int()? {
            -1 => Ok(None),
            n if n < 0 => Err(JuteError::NegativeLength(n)),
            n => Ok(Some(self.take(n as usize)?.to_vec())),
        }
    }

    pub fn string(&mut self) -> Result<Option<String>, JuteError> {
        self.buffer()?
            .map(|b| String::from_utf8(join_surrogates(b)).map_err(|_| JuteError::NotUtf8))
            .transpose()
    }

    /// A string that the protocol never leaves null.
    pub fn text(&mut self) -> Result<String, JuteError> {
        self.string()?.ok_or(JuteError::Null)
    }

    /// A vector that the protocol never leaves null.
    pub fn vector<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, JuteError>,
    ) -> Result<Vec<T>, JuteError> {
        let n = self.int()?;
        if n < 0 {
            return Err(JuteError::NegativeLength(n));
        }
        (0..n).map(|_| each(self)).collect()
    }

    /// Fails unless everything was read: a server that appends bytes is not compatible.
    pub fn end(&self) -> Result<(), JuteError> {
        match self.remaining().len() {
            0 => Ok(()),
            n => Err(JuteError::Trailing(n)),
        }
    }
}

/// Java writes a character beyond U+FFFF as two UTF-16 surrogates of three bytes each. Turns
/// such pairs into UTF-8 and leaves everything else alone.
fn join_surrogates(bytes: Vec<u8>) -> Vec<u8> {
    let half = |b: &[u8], lead: std::ops::RangeInclusive<u8>| {
        (b.len() >= 3 && b[0] == 0xed && lead.contains(&b[1]))
            .then(|| u32::from(b[1] & 0x0f) << 6 | u32::from(b[2] & 0x3f))
    };
    let mut joined = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let high = half(&bytes[at..], 0xa0..=0xaf);
        let low = bytes.get(at + 3..).and_then(|b| half(b, 0xb0..=0xbf));
        match (high, low) {
            (Some(high), Some(low)) => {
                let code = 0x1_0000 + (high << 10) + (low & 0x3ff);
                let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                joined.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += 6;
            }
            _ => {
                joined.push(bytes[at]);
                at += 1;
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_buffers_stay_apart() {
        let bytes = Writer::new().buffer(None).buffer(Some(b"")).finish();
        assert_eq!(bytes, [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        let mut r = Reader::new(&bytes);
        assert_eq!(r.buffer(), Ok(None));
        assert_eq!(r.buffer(), Ok(Some(vec![])));
        assert_eq!(r.end(), Ok(()));
    }

    #[test]
    fn surrogate_pairs_read_as_the_character_they_mean() {
        let java = [b'x', 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80, b'y'];
        let bytes = Writer::new().buffer(Some(&java)).finish();
        let text = Reader::new(&bytes).string();
        assert_eq!(text, Ok(Some("x\u{1f600}y".to_owned())));
    }

    #[test]
    fn a_short_record_is_an_error_and_trailing_bytes_are_too() {
        let mut r = Reader::new(&[0, 0, 0, 9, 1]);
        assert_eq!(r.buffer(), Err(JuteError::Short { at: 4, missing: 8 }));
        assert_eq!(Reader::new(&[1, 2]).end(), Err(JuteError::Trailing(2)));
    }
}
