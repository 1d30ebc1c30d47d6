//! What a server sends, cut into frames.

use bytes::BytesMut;

use crate::reply::is_notification;

pub(super) struct Frame {
    /// With its length.
    pub(super) bytes: BytesMut,
    pub(super) is_event: bool,
}

/// Servers write whole frames. The answer to a handshake is no event either.
pub(super) fn frames(bytes: &BytesMut) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = &bytes[..];
    while let Some(length) = rest.first_chunk::<4>() {
        let end = (4 + u32::from_be_bytes(*length) as usize).min(rest.len());
        let (frame, behind) = rest.split_at(end);
        frames.push(Frame {
            bytes: BytesMut::from(frame),
            is_event: is_notification(&frame[4..]).unwrap_or(false),
        });
        rest = behind;
    }
    frames
}
