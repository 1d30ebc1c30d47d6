//! ZooKeeper's wire format: jute records, frames, the handshake, the four-letter words.
//!
//! Sans-io: bytes in, values out, and back. Nothing here opens a socket, reads a clock, knows a session or a tree,
//! or decides what a request means; the proxy does. A decoded request borrows from its frame, so a read request
//! costs no allocation, and what a peer sends never makes this crate reserve more memory than the bytes that came.
//!
//! Entry types, server side: [`ServerCodec`] yields [`Inbound`]; [`decode_header`] and [`decode_body`] turn a frame
//! into a [`Request`]; [`reply`], [`notification`] and [`ConnectResponse::encode`] write into a `BytesMut` that may
//! hold many frames. Client side of the same: [`client`].

pub mod client;
mod codec;
mod codes;
mod connect;
pub mod fuzz;
mod jute;
pub mod limits;
mod multi;
mod ops;
pub mod paths;
mod records;
mod reply;
mod request;
mod words;

pub use codec::{CodecError, FrameError, Inbound, ServerCodec, next_frame};
pub use codes::ErrorCode;
pub use connect::{ConnectRequest, ConnectResponse, PASSWORD_BYTES};
pub use jute::{DecodeError, Text};
pub use multi::{MultiOp, MultiReadOp};
pub use ops::OpCode;
pub use records::{AclRecord, EventType, Stat, WatcherEvent};
pub use reply::{BodyWriter, EVENT_STATE_CONNECTED, EVENT_ZXID_NONE, notification, reply};
pub use request::{
    CheckRequest, CreateRequest, DeleteRequest, Paths, Request, RequestHeader, SetDataRequest,
    decode_body, decode_header,
};
pub use words::{FourLetterWord, Word};
