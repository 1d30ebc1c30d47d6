//! Frames. A connection opens with a four-letter word or a handshake; after the handshake come requests.
//!
//! No announced length makes the codec reserve memory: the buffer grows with the bytes that arrive, up to the limit.

use bytes::{Buf, Bytes, BytesMut};

use crate::connect::ConnectRequest;
use crate::jute::DecodeError;
use crate::limits::PACKET_BYTES_MAX;
use crate::words::{FourLetterWord, Word};

const LENGTH_BYTES: usize = 4;

/// Bytes of `stmk` with its mask.
const STMK_BYTES: usize = 4 + 8;

/// A frame that no peer may send. The connection is closed without an answer; the session lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame length {0} is out of range")]
pub struct FrameError(pub i32);

/// Why a connection must be closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the handshake is malformed: {0}")]
    Handshake(DecodeError),
}

/// What a connection brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// To be answered, then the connection is closed. Nothing follows.
    FourLetterWord(FourLetterWord),
    /// The handshake: exactly one, and first.
    Connect(ConnectRequest),
    /// A request: header and body, without the length.
    Frame(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Requests,
    /// After a four-letter word whatever comes is dropped.
    Closing,
}

/// The server's half of a connection.
#[derive(Clone, Debug)]
pub struct ServerCodec {
    phase: Phase,
    packet_bytes_max: usize,
    takes_trace_mask: bool,
}

impl Default for ServerCodec {
    fn default() -> Self {
        Self::new(PACKET_BYTES_MAX)
    }
}

impl ServerCodec {
    /// `packet_bytes_max` is `jute.maxbuffer`, inclusive.
    pub fn new(packet_bytes_max: usize) -> Self {
        Self {
            phase: Phase::Opening,
            packet_bytes_max,
            takes_trace_mask: true,
        }
    }

    /// For a server that refuses `stmk`, and so does not wait for what follows it.
    pub fn refuse_trace_mask(&mut self) {
        self.takes_trace_mask = false;
    }

    /// The first four bytes decide. (A TLS ClientHello, `16 03`, would be told apart here as well: as a length it
    /// is above any sensible limit.)
    fn open(&mut self, source: &mut BytesMut) -> Result<Option<Inbound>, CodecError> {
        let Some(first) = source.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        if let Some(word) = Word::sniff(*first) {
            return Ok(self.word(word, source));
        }
        let Some(payload) = take_frame(source, self.packet_bytes_max)? else {
            return Ok(None);
        };
        let request = ConnectRequest::decode(&payload).map_err(CodecError::Handshake)?;
        self.phase = Phase::Requests;
        Ok(Some(Inbound::Connect(request)))
    }

    fn word(&mut self, word: Word, source: &mut BytesMut) -> Option<Inbound> {
        let mut argument = None;
        if word == Word::Stmk && self.takes_trace_mask {
            let bytes = source.first_chunk::<STMK_BYTES>()?;
            argument = Some((&bytes[4..]).get_i64());
        }
        self.phase = Phase::Closing;
        source.clear();
        Some(Inbound::FourLetterWord(FourLetterWord { word, argument }))
    }
}

impl ServerCodec {
    /// Takes the next item off the front of `source`; `None` while it is incomplete.
    pub fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Inbound>, CodecError> {
        match self.phase {
            Phase::Opening => self.open(source),
            Phase::Requests => {
                let frame = take_frame(source, self.packet_bytes_max)?;
                Ok(frame.map(|payload| Inbound::Frame(payload.freeze())))
            }
            Phase::Closing => {
                source.clear();
                Ok(None)
            }
        }
    }
}

fn take_frame(
    source: &mut BytesMut,
    packet_bytes_max: usize,
) -> Result<Option<BytesMut>, FrameError> {
    let Some(length) = next_frame(source, packet_bytes_max)?.map(<[u8]>::len) else {
        return Ok(None);
    };
    source.advance(LENGTH_BYTES);
    Ok(Some(source.split_to(length)))
}

/// The payload of the frame that `bytes` start with; `None` while it is incomplete. It occupies its length and
/// four bytes more. A bad length is told as soon as it is there.
pub fn next_frame(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<&[u8]>, FrameError> {
    let Some((announced, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let announced = i32::from_be_bytes(*announced);
    match usize::try_from(announced) {
        Ok(length) if (1..=packet_bytes_max).contains(&length) => Ok(rest.get(..length)),
        _ => Err(FrameError(announced)),
    }
}
