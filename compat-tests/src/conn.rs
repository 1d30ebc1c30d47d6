//! One TCP connection, frame by frame, with nothing hidden: a test decides every byte that
//! goes out and sees every frame and the end of the stream that come in.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::jute::{JuteError, Reader, Writer};

/// How long a test waits for anything before it calls it missing. Generous, because it is
/// only ever reached by a failure, and machines that run tests can be slow.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Larger frames from a server are refused, so that garbage is not taken for a length.
const FRAME_MAX_BYTES: usize = 256 << 20;

/// Why no frame came.
#[derive(Debug, Error)]
pub enum ConnError {
    #[error("the server closed the connection")]
    Closed,
    #[error("nothing came within the deadline")]
    Timeout,
    #[error("frame length {0} from the server")]
    BadLength(i32),
    #[error("unreadable record: {0}")]
    Jute(#[from] JuteError),
    #[error("socket: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ConnError {
    fn from(e: io::Error) -> Self {
        use io::ErrorKind as K;
        match e.kind() {
            K::ConnectionReset | K::BrokenPipe | K::UnexpectedEof | K::ConnectionAborted => {
                Self::Closed
            }
            K::WouldBlock | K::TimedOut => Self::Timeout,
            _ => Self::Io(e),
        }
    }
}

/// What a client says first.
#[derive(Debug, Clone)]
pub struct ConnectRequest {
    pub last_zxid_seen: i64,
    pub timeout_ms: i32,
    pub session_id: i64,
    pub passwd: Option<Vec<u8>>,
    /// `None` is the 44-byte form of clients older than 3.4.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Asks for a new session, in the 45-byte form.
    pub fn new_session(timeout_ms: i32) -> Self {
        Self {
            last_zxid_seen: 0,
            timeout_ms,
            session_id: 0,
            passwd: Some(vec![0; 16]),
            read_only: Some(false),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let w = Writer::new()
            .int(0)
            .long(self.last_zxid_seen)
            .int(self.timeout_ms)
            .long(self.session_id)
            .buffer(self.passwd.as_deref());
        match self.read_only {
            None => w,
            Some(flag) => w.bool(flag),
        }
        .finish()
    }
}

/// What a server answers to a [`ConnectRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectResponse {
    pub protocol_version: i32,
    pub timeout_ms: i32,
    pub session_id: i64,
    pub passwd: Option<Vec<u8>>,
    /// `None` when the answer had 36 bytes.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    pub fn decode(frame: &[u8]) -> Result<Self, JuteError> {
        let mut r = Reader::new(frame);
        let mut response = Self {
            protocol_version: r.int()?,
            timeout_ms: r.int()?,
            session_id: r.long()?,
            passwd: r.buffer()?,
            read_only: None,
        };
        if !r.remaining().is_empty() {
            response.read_only = Some(r.bool()?);
        }
        r.end()?;
        Ok(response)
    }

    /// True if the server says that the session is gone.
    pub fn is_expired(&self) -> bool {
        self.timeout_ms <= 0
    }
}

/// A connection that knows frames and nothing else.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Conn {
    pub fn open(addr: SocketAddr) -> Result<Self, ConnError> {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE)?;
        // A port that nobody listens on may be given to the caller itself, and TCP then connects
        // it to itself: no server was there.
        if stream.local_addr()? == addr {
            return Err(ConnError::Closed);
        }
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Sends bytes as they are, without a length before them.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ConnError> {
        Ok(self.stream.write_all(bytes)?)
    }

    pub fn send_frame(&mut self, payload: &[u8]) -> Result<(), ConnError> {
        self.send_frames(std::slice::from_ref(&payload.to_vec()))
    }

    /// Sends several frames in one write: a pipelining client.
    pub fn send_frames(&mut self, payloads: &[Vec<u8>]) -> Result<(), ConnError> {
        let total = payloads.iter().map(|p| p.len() + 4).sum();
        let mut bytes = Vec::with_capacity(total);
        for payload in payloads {
            bytes.extend_from_slice(&(payload.len() as i32).to_be_bytes());
            bytes.extend_from_slice(payload);
        }
        self.send_bytes(&bytes)
    }

    /// The next frame, without its length.
    pub fn read_frame(&mut self, within: Duration) -> Result<Vec<u8>, ConnError> {
        let until = Instant::now() + within;
        self.fill(4, until)?;
        let mut length = [0; 4];
        length.copy_from_slice(&self.unread[..4]);
        let length = i32::from_be_bytes(length);
        if length < 0 || length as usize > FRAME_MAX_BYTES {
            return Err(ConnError::BadLength(length));
        }
        let end = 4 + length as usize;
        self.fill(end, until)?;
        let frame = self.unread[4..end].to_vec();
        self.unread.drain(..end);
        Ok(frame)
    }

    /// Everything until the server closes, without regard to frames.
    pub fn read_to_end(&mut self, within: Duration) -> Result<Vec<u8>, ConnError> {
        let until = Instant::now() + within;
        loop {
            match self.read_some(until) {
                Ok(()) => {}
                Err(ConnError::Closed) => return Ok(std::mem::take(&mut self.unread)),
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits until the server has closed; a frame that comes before that is an error.
    pub fn expect_close(&mut self, within: Duration) -> Result<(), String> {
        match self.read_to_end(within) {
            Ok(bytes) if bytes.is_empty() => Ok(()),
            Ok(bytes) => Err(format!("bytes before the close: {bytes:02x?}")),
            Err(e) => Err(format!("not closed: {e}")),
        }
    }

    /// Sends the handshake and reads its answer.
    pub fn handshake(&mut self, request: &ConnectRequest) -> Result<ConnectResponse, ConnError> {
        self.send_frame(&request.encode())?;
        Ok(ConnectResponse::decode(&self.read_frame(DEADLINE)?)?)
    }

    /// Ends our half of the connection, or both.
    pub fn shutdown(&self, how: Shutdown) {
        // The peer may have gone already; then there is nothing left to shut down.
        let _ = self.stream.shutdown(how);
    }

    pub fn local_addr(&self) -> Result<SocketAddr, ConnError> {
        Ok(self.stream.local_addr()?)
    }

    fn fill(&mut self, want: usize, until: Instant) -> Result<(), ConnError> {
        while self.unread.len() < want {
            self.read_some(until)?;
        }
        Ok(())
    }

    fn read_some(&mut self, until: Instant) -> Result<(), ConnError> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnError::Timeout);
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(ConnError::Closed),
            Ok(n) => {
                self.unread.extend_from_slice(&chunk[..n]);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// Sends a four-letter word and returns all that comes back.
pub fn four_letter_word(addr: SocketAddr, word: &str) -> Result<String, ConnError> {
    four_letter_word_within(addr, word, DEADLINE)
}

/// As [`four_letter_word`], for a server that may not answer.
pub fn four_letter_word_within(
    addr: SocketAddr,
    word: &str,
    within: Duration,
) -> Result<String, ConnError> {
    let mut conn = Conn::open(addr)?;
    conn.send_bytes(word.as_bytes())?;
    let bytes = conn.read_to_end(within)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
