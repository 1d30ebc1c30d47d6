//! Varints, strings and lists inside rows.

use std::sync::Arc;

pub(crate) use oxkeeper_format::varint::put as put_varint;
use oxkeeper_format::varint::zigzag;
use oxkeeper_model::{Acl, AclEntry};

use super::RowError;

pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_acl(out: &mut Vec<u8>, acl: &[AclEntry]) {
    put_varint(out, acl.len() as u64);
    for entry in acl {
        put_signed(out, i64::from(entry.permissions));
        put_bytes(out, entry.scheme.as_bytes());
        put_bytes(out, entry.id.as_bytes());
    }
}

pub(crate) fn read_acl(reader: &mut Reader<'_>) -> Result<Acl, RowError> {
    let count = reader.varint()?;
    let mut acl = Vec::new();
    for _ in 0..count {
        acl.push(AclEntry {
            permissions: reader.signed_i32()?,
            scheme: reader.text()?.into(),
            id: reader.text()?.into(),
        });
    }
    Ok(Arc::from(acl))
}

/// Reads a row from front to back; every read checks what is left.
pub(crate) struct Reader<'a> {
    row: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `row` names the kind of row in errors.
    pub(crate) fn new(row: &'static str, rest: &'a [u8]) -> Self {
        Self { row, rest }
    }

    pub(crate) fn malformed(&self) -> RowError {
        RowError::Malformed(self.row)
    }

    /// Reads the format byte and refuses any other than `known`.
    pub(crate) fn format(&mut self, known: u8) -> Result<(), RowError> {
        let format = self.byte()?;
        if format != known {
            return Err(RowError::UnknownFormat {
                row: self.row,
                format,
                known,
            });
        }
        Ok(())
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RowError> {
        let (&byte, rest) = self.rest.split_first().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(byte)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], RowError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.malformed())
    }

    pub(crate) fn varint(&mut self) -> Result<u64, RowError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    pub(crate) fn varint_u32(&mut self) -> Result<u32, RowError> {
        u32::try_from(self.varint()?).map_err(|_| self.malformed())
    }

    pub(crate) fn signed(&mut self) -> Result<i64, RowError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn signed_i32(&mut self) -> Result<i32, RowError> {
        i32::try_from(self.signed()?).map_err(|_| self.malformed())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RowError> {
        let count = usize::try_from(self.varint()?).map_err(|_| self.malformed())?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, RowError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed())
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), RowError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }
}
