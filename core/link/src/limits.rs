//! The limits of the link's client side.

/// Requests that a [`crate::Resume`] keeps until they are answered.
pub const RESUME_REQUESTS_MAX: usize = 32 << 10;

/// Bytes of these requests. One request of any size is kept if there is no other.
pub const RESUME_BYTES_MAX: usize = 64 << 20;
