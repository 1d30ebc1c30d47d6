//! The client's side of the protocol: requests out, replies and events in. For the load generator, the
//! differential runs and tests.

use bytes::{BufMut, BytesMut};

use crate::codes::ErrorCode;
use crate::jute::{self, DecodeError, Parse, Text};
use crate::limits::{ACL_BYTES_MIN, TEXT_BYTES_MIN};
use crate::multi;
use crate::ops::OpCode;
use crate::records::{AclRecord, Stat, WatcherEvent};
use crate::request::Request;

/// The xid of notifications.
pub const XID_NOTIFICATION: i32 = crate::reply::XID_NOTIFICATION;
/// The xid of pings and their replies.
pub const XID_PING: i32 = -2;
/// The xid that clients give to auth packets.
pub const XID_AUTH: i32 = -4;
/// The xid that clients give to setWatches.
pub const XID_SET_WATCHES: i32 = -8;

/// A frame from the server, its body still raw: what it holds depends on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub xid: i32,
    pub zxid: i64,
    pub err: ErrorCode,
    pub body: &'a [u8],
}

/// One result of a multi or multiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiResult<'a> {
    Created {
        op: OpCode,
        path: Text<'a>,
        stat: Option<Stat>,
    },
    DataSet(Stat),
    /// A delete or a check.
    Done(OpCode),
    Data {
        data: Option<&'a [u8]>,
        stat: Stat,
    },
    Children(Option<Vec<Text<'a>>>),
    Error(ErrorCode),
}

/// Appends a request frame.
pub fn encode_request(out: &mut BytesMut, xid: i32, request: &Request<'_>) {
    jute::put_frame(out, |out| {
        out.put_i32(xid);
        out.put_i32(request.op().0);
        request.put(out);
    });
}

/// Splits a frame's payload into the reply header and the body.
pub fn decode_reply(frame: &[u8]) -> Result<Reply<'_>, DecodeError> {
    jute::finish(parse_reply(frame))
}

fn parse_reply(input: &[u8]) -> Parse<'_, Reply<'_>> {
    let (input, xid) = jute::int(input)?;
    let (input, zxid) = jute::long(input)?;
    let (body, err) = jute::int(input)?;
    Ok((
        body,
        Reply {
            xid,
            zxid,
            err: ErrorCode(err),
            body,
        },
    ))
}

/// Readers of response records. Each also takes what follows the record and ignores it.
impl<'a> Reply<'a> {
    /// exists, setData, setACL.
    pub fn stat(&self) -> Result<Stat, DecodeError> {
        jute::finish(Stat::parse(self.body))
    }

    /// create, sync.
    pub fn path(&self) -> Result<Text<'a>, DecodeError> {
        jute::finish(jute::text(self.body))
    }

    /// create2, createContainer, createTTL.
    pub fn path_and_stat(&self) -> Result<(Text<'a>, Stat), DecodeError> {
        jute::finish(pair(self.body, jute::text, Stat::parse))
    }

    /// getData.
    pub fn data_and_stat(&self) -> Result<(Option<&'a [u8]>, Stat), DecodeError> {
        jute::finish(pair(self.body, jute::buffer, Stat::parse))
    }

    /// getChildren, getEphemerals.
    pub fn texts(&self) -> Result<Option<Vec<Text<'a>>>, DecodeError> {
        jute::finish(parse_texts(self.body))
    }

    /// getChildren2.
    pub fn texts_and_stat(&self) -> Result<(Option<Vec<Text<'a>>>, Stat), DecodeError> {
        jute::finish(pair(self.body, parse_texts, Stat::parse))
    }

    /// getACL.
    pub fn acl_and_stat(&self) -> Result<(Option<Vec<AclRecord<'a>>>, Stat), DecodeError> {
        let acl = |input| jute::list(input, ACL_BYTES_MIN, AclRecord::parse);
        jute::finish(pair(self.body, acl, Stat::parse))
    }

    /// getAllChildrenNumber, addWatch.
    pub fn int(&self) -> Result<i32, DecodeError> {
        jute::finish(jute::int(self.body))
    }

    /// sasl.
    pub fn buffer(&self) -> Result<Option<&'a [u8]>, DecodeError> {
        jute::finish(jute::buffer(self.body))
    }

    /// whoAmI: pairs of scheme and user.
    pub fn client_infos(&self) -> Result<Option<Vec<(Text<'a>, Text<'a>)>>, DecodeError> {
        let info = |input| pair(input, jute::text, jute::text);
        jute::finish(jute::list(self.body, 2 * TEXT_BYTES_MIN, info))
    }

    /// A notification, [`XID_NOTIFICATION`].
    pub fn event(&self) -> Result<WatcherEvent<'a>, DecodeError> {
        jute::finish(WatcherEvent::parse(self.body))
    }

    /// multi, multiRead.
    pub fn multi_results(&self) -> Result<Vec<MultiResult<'a>>, DecodeError> {
        jute::finish(parse_results(self.body))
    }
}

fn pair<'a, A, B>(
    input: &'a [u8],
    first: impl FnOnce(&'a [u8]) -> Parse<'a, A>,
    second: impl FnOnce(&'a [u8]) -> Parse<'a, B>,
) -> Parse<'a, (A, B)> {
    let (input, a) = first(input)?;
    let (input, b) = second(input)?;
    Ok((input, (a, b)))
}

fn parse_texts(input: &[u8]) -> Parse<'_, Option<Vec<Text<'_>>>> {
    jute::list(input, TEXT_BYTES_MIN, jute::text)
}

fn parse_results(mut input: &[u8]) -> Parse<'_, Vec<MultiResult<'_>>> {
    let mut results = Vec::new();
    loop {
        let (rest, header) = multi::parse_header(input)?;
        if header.done {
            return Ok((rest, results));
        }
        let (rest, result) = parse_result(header.op, rest)?;
        results.push(result);
        input = rest;
    }
}

fn parse_result(op: OpCode, input: &[u8]) -> Parse<'_, MultiResult<'_>> {
    match op {
        OpCode::CREATE => {
            let (input, path) = jute::text(input)?;
            Ok((
                input,
                MultiResult::Created {
                    op,
                    path,
                    stat: None,
                },
            ))
        }
        OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
            let (input, (path, stat)) = pair(input, jute::text, Stat::parse)?;
            Ok((
                input,
                MultiResult::Created {
                    op,
                    path,
                    stat: Some(stat),
                },
            ))
        }
        OpCode::DELETE | OpCode::CHECK => Ok((input, MultiResult::Done(op))),
        OpCode::SET_DATA => {
            Stat::parse(input).map(|(input, stat)| (input, MultiResult::DataSet(stat)))
        }
        OpCode::GET_DATA => {
            let (input, (data, stat)) = pair(input, jute::buffer, Stat::parse)?;
            Ok((input, MultiResult::Data { data, stat }))
        }
        OpCode::GET_CHILDREN => {
            parse_texts(input).map(|(input, names)| (input, MultiResult::Children(names)))
        }
        OpCode::ERROR => {
            jute::int(input).map(|(input, code)| (input, MultiResult::Error(ErrorCode(code))))
        }
        _ => jute::fail(DecodeError::SubOperation(op)),
    }
}
