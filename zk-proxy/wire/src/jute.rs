//! jute's primitives: readers as nom parsers, writers over `BytesMut`.
//!
//! ZooKeeper also compares an inner length with `jute.maxbuffer` plus an extra. A frame is never longer than
//! `jute.maxbuffer`, so such a length is always beyond the frame's end as well, and both mean the same answer;
//! one check covers both.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use nom::IResult;
use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};
use nom::number::complete::{be_i32, be_i64, be_u8};

use crate::codes::ErrorCode;
use crate::ops::OpCode;

/// A jute string. Null and empty differ; owned only where invalid UTF-8 had to be replaced.
pub type Text<'a> = Option<Cow<'a, str>>;

/// Why bytes are not the record they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the record ends too early")]
    Truncated,
    #[error("length {0} is out of range")]
    Length(i32),
    #[error("a create inside a multi has a null access list")]
    NullAccessList,
    #[error("create flags {0} inside a multi have no meaning")]
    CreateFlags(i32),
    #[error("{0} is not allowed inside this multi")]
    SubOperation(OpCode),
    /// The only one after which the connection must be closed.
    #[error("{0} is not known")]
    UnknownOperation(OpCode),
}

impl DecodeError {
    /// The code that answers a request with this fault.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::UnknownOperation(_) => ErrorCode::UNIMPLEMENTED,
            _ => ErrorCode::MARSHALLING_ERROR,
        }
    }
}

impl ParseError<&[u8]> for DecodeError {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self::Truncated
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

pub(crate) type Parse<'a, T> = IResult<&'a [u8], T, DecodeError>;

/// The parsed value; what follows the record is ignored, as ZooKeeper does.
pub(crate) fn finish<T>(parsed: Parse<'_, T>) -> Result<T, DecodeError> {
    match parsed {
        Ok((_, value)) => Ok(value),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => Err(fault),
        Err(nom::Err::Incomplete(_)) => Err(DecodeError::Truncated),
    }
}

pub(crate) fn fail<T>(fault: DecodeError) -> Parse<'static, T> {
    Err(nom::Err::Failure(fault))
}

pub(crate) fn int(input: &[u8]) -> Parse<'_, i32> {
    be_i32(input)
}

pub(crate) fn long(input: &[u8]) -> Parse<'_, i64> {
    be_i64(input)
}

/// Any non-zero byte is true.
pub(crate) fn boolean(input: &[u8]) -> Parse<'_, bool> {
    let (input, byte) = be_u8(input)?;
    Ok((input, byte != 0))
}

pub(crate) fn buffer(input: &[u8]) -> Parse<'_, Option<&[u8]>> {
    let (input, length) = int(input)?;
    match usize::try_from(length) {
        Ok(length) => {
            let (input, bytes) = take(length)(input)?;
            Ok((input, Some(bytes)))
        }
        Err(_) if length == -1 => Ok((input, None)),
        Err(_) => fail(DecodeError::Length(length)),
    }
}

pub(crate) fn text(input: &[u8]) -> Parse<'_, Text<'_>> {
    let (input, bytes) = buffer(input)?;
    Ok((input, bytes.map(decode_text)))
}

/// A list, null allowed. A count below −1 is an empty list, as in ZooKeeper; one beyond the bytes that are
/// left reserves nothing for what is not there (`element_bytes_min` each) and fails at the first missing element.
pub(crate) fn list<'a, T>(
    input: &'a [u8],
    element_bytes_min: usize,
    element: impl Fn(&'a [u8]) -> Parse<'a, T>,
) -> Parse<'a, Option<Vec<T>>> {
    let (mut input, count) = int(input)?;
    if count == -1 {
        return Ok((input, None));
    }
    let count = usize::try_from(count).unwrap_or(0);
    let mut elements = Vec::with_capacity(count.min(input.len() / element_bytes_min));
    for _ in 0..count {
        let (rest, value) = element(input)?;
        input = rest;
        elements.push(value);
    }
    Ok((input, Some(elements)))
}

fn decode_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(valid) => Cow::Borrowed(valid),
        Err(_) => Cow::Owned(replace_invalid(bytes)),
    }
}

/// UTF-8 with U+FFFD for what is invalid. Java replaces an encoded surrogate (which its own encoder sends for
/// characters beyond U+FFFF) by one U+FFFD, where Rust's lossy decoder gives one per byte.
fn replace_invalid(bytes: &[u8]) -> String {
    let mut decoded = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Err(fault) = std::str::from_utf8(rest) {
        let (valid, invalid) = rest.split_at(fault.valid_up_to());
        decoded.push_str(&String::from_utf8_lossy(valid));
        decoded.push(char::REPLACEMENT_CHARACTER);
        let skipped = match invalid {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            [0xed, 0xa0..=0xbf] => 2,
            _ => fault.error_len().unwrap_or(invalid.len()),
        };
        rest = &invalid[skipped..];
    }
    decoded.push_str(&String::from_utf8_lossy(rest));
    decoded
}

/// Lengths and counts are 32-bit on the wire. Nothing that fits a frame comes near; saturating keeps the writers
/// free of failure, and the frame's own length check refuses what is too long.
fn put_length(out: &mut BytesMut, length: usize) {
    out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
}

pub(crate) fn put_boolean(out: &mut BytesMut, value: bool) {
    out.put_u8(u8::from(value));
}

pub(crate) fn put_buffer(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => out.put_i32(-1),
        Some(bytes) => {
            put_length(out, bytes.len());
            out.put_slice(bytes);
        }
    }
}

pub(crate) fn put_text(out: &mut BytesMut, text: Option<&str>) {
    /// The least first byte of a four-byte character in UTF-8.
    const FOUR_BYTES: u8 = 0xf0;
    match text {
        Some(text) if text.bytes().any(|byte| byte >= FOUR_BYTES) => {
            put_buffer(out, Some(&with_surrogates(text)));
        }
        text => put_buffer(out, text.map(str::as_bytes)),
    }
}

/// As Java's jute encodes characters beyond 16 bits: each half of the surrogate pair on its own,
/// in three bytes, which is not UTF-8 but what Java clients expect.
fn with_surrogates(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 2);
    for unit in text.encode_utf16() {
        match unit {
            0..0x80 => bytes.push(unit as u8),
            0x80..0x800 => bytes.extend([0xc0 | (unit >> 6) as u8, continuation(unit)]),
            _ => bytes.extend([
                0xe0 | (unit >> 12) as u8,
                continuation(unit >> 6),
                continuation(unit),
            ]),
        }
    }
    bytes
}

fn continuation(unit: u16) -> u8 {
    0x80 | (unit & 0x3f) as u8
}

/// A list of unknown length: the count is patched in after the elements.
pub(crate) fn put_list<T>(
    out: &mut BytesMut,
    elements: impl IntoIterator<Item = T>,
    mut put: impl FnMut(&mut BytesMut, T),
) {
    let start = out.len();
    out.put_i32(0);
    let mut count = 0_i32;
    for element in elements {
        put(out, element);
        count = count.saturating_add(1);
    }
    out[start..start + 4].copy_from_slice(&count.to_be_bytes());
}

/// Writes a frame: `payload` first, its length patched in front afterwards.
pub(crate) fn put_frame(out: &mut BytesMut, payload: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    payload(out);
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_different() {
        assert_eq!(finish(buffer(&[255; 4])), Ok(None));
        assert_eq!(finish(buffer(&[0; 4])), Ok(Some(&[][..])));
        assert_eq!(finish(text(&[255; 4])), Ok(None));
        assert_eq!(finish(text(&[0; 4])), Ok(Some("".into())));
    }

    #[test]
    fn a_length_below_minus_one_is_an_error() {
        assert_eq!(
            finish(buffer(&[255, 255, 255, 254, 1, 2])),
            Err(DecodeError::Length(-2))
        );
        assert_eq!(
            finish(buffer(&[128, 0, 0, 0])),
            Err(DecodeError::Length(i32::MIN))
        );
    }

    #[test]
    fn a_length_beyond_the_record_is_an_error() {
        assert_eq!(
            finish(buffer(&[0, 0, 0, 3, 1, 2])),
            Err(DecodeError::Truncated)
        );
        assert_eq!(
            finish(buffer(&[127, 255, 255, 255])),
            Err(DecodeError::Truncated)
        );
    }

    #[test]
    fn any_other_byte_than_zero_is_true() {
        assert_eq!(finish(boolean(&[0])), Ok(false));
        assert_eq!(finish(boolean(&[1])), Ok(true));
        assert_eq!(finish(boolean(&[200])), Ok(true));
    }

    #[test]
    fn characters_beyond_16_bits_are_written_as_surrogates() {
        let mut out = BytesMut::new();
        put_text(&mut out, Some("/dé€😀"));
        let expected = b"\x00\x00\x00\x0d/d\xc3\xa9\xe2\x82\xac\xed\xa0\xbd\xed\xb8\x80";
        assert_eq!(&out[..], expected);
    }

    #[test]
    fn list_counts_are_null_empty_or_elements() {
        let read = |bytes: &'static [u8]| finish(list(bytes, 4, int));
        assert_eq!(read(&[255; 4]), Ok(None));
        assert_eq!(read(&[255, 255, 255, 254]), Ok(Some(vec![])));
        assert_eq!(read(&[0, 0, 0, 1, 0, 0, 0, 9]), Ok(Some(vec![9])));
        assert_eq!(
            read(&[127, 255, 255, 255, 0, 0, 0, 9]),
            Err(DecodeError::Truncated)
        );
    }

    #[test]
    fn a_giant_count_reserves_only_for_the_bytes_present() {
        let mut bytes = vec![127, 255, 255, 255];
        bytes.extend([0; 40]);
        let seen = std::cell::Cell::new(0);
        let result = finish(list(&bytes, 4, |input| {
            seen.set(seen.get() + 1);
            int(input)
        }));
        assert_eq!(result, Err(DecodeError::Truncated));
        assert_eq!(seen.get(), 11, "ten elements and the missing one");
    }

    #[test]
    fn invalid_text_is_replaced_as_java_does() {
        let decode = |bytes| decode_text(bytes).into_owned();
        assert_eq!(decode("/ok€😀".as_bytes()), "/ok€😀");
        assert!(matches!(decode_text("/ok€".as_bytes()), Cow::Borrowed(_)));
        assert_eq!(decode(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(decode(b"\xc0\x80"), "\u{fffd}\u{fffd}");
        assert_eq!(decode(b"\xe2\x82"), "\u{fffd}");
        assert_eq!(
            decode(b"\xed\xa0\xbd\xed\xb8\x80x"),
            "\u{fffd}\u{fffd}x",
            "a surrogate pair in two parts"
        );
        assert_eq!(decode(b"\xed\xa0"), "\u{fffd}");
        assert_eq!(decode(b"\xf0\x9f\x98"), "\u{fffd}");
    }
}
