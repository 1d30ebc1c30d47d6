//! The one function that every fuzzer calls: all that a server decodes, on arbitrary bytes.

use bytes::{Buf, BytesMut};

use crate::client::decode_reply;
use crate::codec::{Inbound, ServerCodec};
use crate::connect::ConnectResponse;
use crate::jute::DecodeError;
use crate::ops::OpCode;
use crate::request::{Request, decode_body, decode_header};

/// Frames decoded per input; more only repeats.
const FRAMES_MAX: usize = 64;

/// Decodes `bytes` as the stream of a connection and as the body of each operation. Must not panic; what decodes
/// must decode to the same again after encoding.
pub fn exercise(bytes: &[u8]) {
    as_stream(bytes);
    for &op in OpCode::ALL {
        as_body(op, bytes);
    }
    as_client(bytes);
    as_frame(bytes);
}

fn as_stream(bytes: &[u8]) {
    let mut codec = ServerCodec::default();
    let mut source = BytesMut::from(bytes);
    for _ in 0..FRAMES_MAX {
        match codec.decode(&mut source) {
            Ok(Some(Inbound::Frame(frame))) => as_frame(&frame),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

fn as_frame(mut frame: &[u8]) {
    if let Ok(header) = decode_header(&mut frame) {
        as_body(header.op, frame);
    }
}

fn as_body(op: OpCode, body: &[u8]) {
    let Ok(request) = decode_body(op, body) else {
        return;
    };
    assert_eq!(request.op(), op, "a request knows its operation");
    let encoded = encoded(&request);
    let again = match decode_encoded(op, &encoded) {
        Ok(again) => again,
        // A TTL create inside a multi may be another create in truth, and those need a list.
        Err(DecodeError::NullAccessList) => return,
        Err(error) => panic!("{error}: {request:?}"),
    };
    // Characters beyond 16 bits do not survive jute, so only the second round is the same for sure.
    let encoded_again = self::encoded(&again);
    let third = decode_encoded(op, &encoded_again);
    assert_eq!(third.as_ref(), Ok(&again), "encoding and decoding agree");
}

fn encoded(request: &Request<'_>) -> BytesMut {
    let mut encoded = BytesMut::new();
    crate::client::encode_request(&mut encoded, 7, request);
    encoded.advance(4);
    encoded
}

fn decode_encoded(op: OpCode, mut frame: &[u8]) -> Result<Request<'_>, DecodeError> {
    let header = decode_header(&mut frame)?;
    assert_eq!(header.op, op);
    decode_body(op, frame)
}

fn as_client(bytes: &[u8]) {
    let _ = ConnectResponse::decode(bytes);
    let Ok(reply) = decode_reply(bytes) else {
        return;
    };
    let _ = reply.path_and_stat();
    let _ = reply.data_and_stat();
    let _ = reply.texts_and_stat();
    let _ = reply.acl_and_stat();
    let _ = reply.client_infos();
    let _ = reply.event();
    let _ = reply.multi_results();
}
