//! Every limit of the wire in one place.

/// Largest payload of a frame when nothing else is configured: ZooKeeper's `jute.maxbuffer`, inclusive.
pub const PACKET_BYTES_MAX: usize = 0xf_ffff;

/// Largest length a frame can announce at all: the field is a signed 32-bit number.
pub const PACKET_BYTES_CEILING: usize = i32::MAX as usize;

/// Fewest bytes of an encoded string: its length. Bounds what a vector's count may reserve.
pub(crate) const TEXT_BYTES_MIN: usize = 4;

/// Fewest bytes of an encoded ACL entry: permissions and two lengths.
pub(crate) const ACL_BYTES_MIN: usize = 4 + 2 * TEXT_BYTES_MIN;

const _: () = assert!(PACKET_BYTES_MAX < PACKET_BYTES_CEILING);
