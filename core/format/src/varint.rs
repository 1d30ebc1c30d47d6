//! LEB128, as protobuf and the store's rows use it.

/// Bytes of the longest.
pub const BYTES_MAX: usize = 10;

/// Appends `value`, seven bits a byte, low bits first.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put`] appends.
pub fn len(value: u64) -> usize {
    // Seven bits a byte, and one byte for 0.
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Signed numbers near zero become small unsigned ones.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
