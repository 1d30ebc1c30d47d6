//! The limits of the link's client side and of what its transports carry.

/// Requests that a [`crate::Resume`] keeps until they are answered.
pub const RESUME_REQUESTS_MAX: usize = 32 << 10;

/// Bytes of these requests. One request of any size is kept if there is no other.
pub const RESUME_BYTES_MAX: usize = 64 << 20;

/// A part of a large event holds at most so many bytes, or one item.
pub const PART_BYTES_TARGET: usize = 256 << 10;

/// What an item of a part weighs apart from its path and value.
pub const PART_ITEM_BYTES: usize = 128;

/// Parts of one event.
pub const ASSEMBLED_PARTS_MAX: usize = 4_096;
