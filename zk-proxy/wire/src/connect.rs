//! The handshake, in both forms: with and without the trailing `readOnly` byte.

use bytes::{BufMut, BytesMut};

use crate::jute::{self, DecodeError, Parse};

/// Length of a session's password.
pub const PASSWORD_BYTES: usize = 16;

/// The first frame of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Ignored by servers.
    pub protocol_version: i32,
    pub last_zxid_seen: i64,
    /// What the client wishes; the server clamps it.
    pub timeout_ms: i32,
    /// 0 asks for a new session.
    pub session_id: i64,
    /// Null and any length can arrive.
    pub password: Option<Box<[u8]>>,
    /// `None`: an old client, which left the byte away and expects an answer without it.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// The payload of the frame, without its length.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        jute::finish(Self::parse(payload))
    }

    fn parse(input: &[u8]) -> Parse<'_, Self> {
        let (input, protocol_version) = jute::int(input)?;
        let (input, last_zxid_seen) = jute::long(input)?;
        let (input, timeout_ms) = jute::int(input)?;
        let (input, session_id) = jute::long(input)?;
        let (input, password) = jute::buffer(input)?;
        let (input, read_only) = optional_flag(input)?;
        let password = password.map(Box::from);
        Ok((
            input,
            Self {
                protocol_version,
                last_zxid_seen,
                timeout_ms,
                session_id,
                password,
                read_only,
            },
        ))
    }

    /// Writes the whole frame.
    pub fn encode(&self, out: &mut BytesMut) {
        jute::put_frame(out, |out| {
            out.put_i32(self.protocol_version);
            out.put_i64(self.last_zxid_seen);
            out.put_i32(self.timeout_ms);
            out.put_i64(self.session_id);
            jute::put_buffer(out, self.password.as_deref());
            if let Some(flag) = self.read_only {
                jute::put_boolean(out, flag);
            }
        });
    }
}

/// The server's answer to [`ConnectRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The negotiated timeout; 0 or less says that the session is gone.
    pub timeout_ms: i32,
    pub session_id: i64,
    pub password: [u8; PASSWORD_BYTES],
    /// Must be `Some` exactly if the request's was.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The answer to a reattach that is refused: the session is expired, unknown, or the password wrong.
    pub fn session_expired(request: &ConnectRequest) -> Self {
        Self {
            timeout_ms: 0,
            session_id: 0,
            password: [0; PASSWORD_BYTES],
            read_only: request.read_only.map(|_| false),
        }
    }

    /// Writes the whole frame.
    pub fn encode(&self, out: &mut BytesMut) {
        jute::put_frame(out, |out| {
            out.put_i32(0);
            out.put_i32(self.timeout_ms);
            out.put_i64(self.session_id);
            jute::put_buffer(out, Some(&self.password));
            if let Some(flag) = self.read_only {
                jute::put_boolean(out, flag);
            }
        });
    }

    /// The payload of the frame, without its length.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        jute::finish(Self::parse(payload))
    }

    fn parse(input: &[u8]) -> Parse<'_, Self> {
        let (input, _protocol_version) = jute::int(input)?;
        let (input, timeout_ms) = jute::int(input)?;
        let (input, session_id) = jute::long(input)?;
        let (input, bytes) = jute::buffer(input)?;
        let (input, read_only) = optional_flag(input)?;
        let bytes = bytes.unwrap_or_default();
        let Ok(password) = bytes.try_into() else {
            return jute::fail(DecodeError::Length(
                i32::try_from(bytes.len()).unwrap_or(i32::MAX),
            ));
        };
        Ok((
            input,
            Self {
                timeout_ms,
                session_id,
                password,
                read_only,
            },
        ))
    }
}

fn optional_flag(input: &[u8]) -> Parse<'_, Option<bool>> {
    if input.is_empty() {
        return Ok((input, None));
    }
    let (input, flag) = jute::boolean(input)?;
    Ok((input, Some(flag)))
}
