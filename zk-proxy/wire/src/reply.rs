//! What the server sends: replies and notifications, written straight into the connection's output buffer.

use bytes::{BufMut, BytesMut};

use crate::codes::ErrorCode;
use crate::jute;
use crate::multi;
use crate::ops::OpCode;
use crate::records::{AclRecord, EventType, Stat};

/// The xid of a notification.
pub(crate) const XID_NOTIFICATION: i32 = -1;

/// The zxid of a notification that no transaction of now causes: those that setWatches catches up with.
pub const EVENT_ZXID_NONE: i64 = -1;

/// The only connection state that servers put into events.
pub const EVENT_STATE_CONNECTED: i32 = 3;

/// Appends a reply frame. `body` writes the response record; on an error the protocol wants none, save for a
/// failed SASL exchange (a null token), so the caller decides.
pub fn reply(
    out: &mut BytesMut,
    xid: i32,
    zxid: i64,
    err: ErrorCode,
    body: impl FnOnce(&mut BodyWriter<'_>),
) {
    jute::put_frame(out, |out| {
        out.put_i32(xid);
        out.put_i64(zxid);
        out.put_i32(err.0);
        body(&mut BodyWriter { out });
    });
}

/// Appends a watch event. `zxid` is that of the transaction, or [`EVENT_ZXID_NONE`].
pub fn notification(out: &mut BytesMut, zxid: i64, kind: EventType, path: &str) {
    reply(out, XID_NOTIFICATION, zxid, ErrorCode::OK, |body| {
        body.int(kind as i32);
        body.int(EVENT_STATE_CONNECTED);
        body.text(Some(path));
    });
}

/// Writes the fields of a response record, in the record's order.
pub struct BodyWriter<'a> {
    out: &'a mut BytesMut,
}

impl BodyWriter<'_> {
    pub fn int(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub fn long(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub fn buffer(&mut self, bytes: Option<&[u8]>) {
        jute::put_buffer(self.out, bytes);
    }

    pub fn text(&mut self, text: Option<&str>) {
        jute::put_text(self.out, text);
    }

    pub fn stat(&mut self, stat: &Stat) {
        stat.put(self.out);
    }

    /// Children, ephemerals: a list of strings.
    pub fn texts(&mut self, texts: impl IntoIterator<Item: AsRef<str>>) {
        jute::put_list(self.out, texts, |out, text| {
            jute::put_text(out, Some(text.as_ref()))
        });
    }

    pub fn acl<'e>(&mut self, entries: impl IntoIterator<Item = AclRecord<'e>>) {
        jute::put_list(self.out, entries, |out, entry| entry.put(out));
    }

    /// whoAmI: pairs of scheme and user.
    pub fn client_infos<'e>(&mut self, infos: impl IntoIterator<Item = (&'e str, &'e str)>) {
        jute::put_list(self.out, infos, |out, (scheme, user)| {
            jute::put_text(out, Some(scheme));
            jute::put_text(out, Some(user));
        });
    }

    /// A create of a successful multi. The Stat is there exactly if `op` was not the plain create;
    /// container and TTL creates answer with the type of create2.
    pub fn multi_created(&mut self, op: OpCode, path: &str, stat: &Stat) {
        if op == OpCode::CREATE {
            multi::put_header(self.out, OpCode::CREATE, false, 0);
            return self.text(Some(path));
        }
        multi::put_header(self.out, OpCode::CREATE2, false, 0);
        self.text(Some(path));
        self.stat(stat);
    }

    /// A setData of a successful multi.
    pub fn multi_data_set(&mut self, stat: &Stat) {
        multi::put_header(self.out, OpCode::SET_DATA, false, 0);
        self.stat(stat);
    }

    /// A delete or check of a successful multi: no result but its header.
    pub fn multi_done(&mut self, op: OpCode) {
        multi::put_header(self.out, op, false, 0);
    }

    /// An operation of a failed multi or a failed read of a multiRead: [`ErrorCode::OK`] for the operations
    /// before the one that failed, its own code, [`ErrorCode::RUNTIME_INCONSISTENCY`] for those after.
    pub fn multi_error(&mut self, code: ErrorCode) {
        multi::put_header(self.out, OpCode::ERROR, false, code.0);
        self.int(code.0);
    }

    /// A getData of a multiRead.
    pub fn multi_data(&mut self, data: Option<&[u8]>, stat: &Stat) {
        multi::put_header(self.out, OpCode::GET_DATA, false, 0);
        self.buffer(data);
        self.stat(stat);
    }

    /// A getChildren of a multiRead.
    pub fn multi_children(&mut self, names: impl IntoIterator<Item: AsRef<str>>) {
        multi::put_header(self.out, OpCode::GET_CHILDREN, false, 0);
        self.texts(names);
    }

    /// Ends the results of a multi or multiRead.
    pub fn multi_end(&mut self) {
        multi::put_end(self.out);
    }
}
