//! Records that stand inside others: Stat, ACL entries, watch events.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::jute::{self, Parse, Text};

/// A znode's Stat as on the wire. Times in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime_ms: i64,
    pub mtime_ms: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

impl Stat {
    pub const ENCODED_BYTES: usize = 68;

    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.reserve(Self::ENCODED_BYTES);
        out.put_i64(self.czxid);
        out.put_i64(self.mzxid);
        out.put_i64(self.ctime_ms);
        out.put_i64(self.mtime_ms);
        out.put_i32(self.version);
        out.put_i32(self.cversion);
        out.put_i32(self.aversion);
        out.put_i64(self.ephemeral_owner);
        out.put_i32(self.data_length);
        out.put_i32(self.num_children);
        out.put_i64(self.pzxid);
    }

    pub(crate) fn parse(input: &[u8]) -> Parse<'_, Self> {
        let (input, czxid) = jute::long(input)?;
        let (input, mzxid) = jute::long(input)?;
        let (input, ctime_ms) = jute::long(input)?;
        let (input, mtime_ms) = jute::long(input)?;
        let (input, version) = jute::int(input)?;
        let (input, cversion) = jute::int(input)?;
        let (input, aversion) = jute::int(input)?;
        let (input, ephemeral_owner) = jute::long(input)?;
        let (input, data_length) = jute::int(input)?;
        let (input, num_children) = jute::int(input)?;
        let (input, pzxid) = jute::long(input)?;
        let stat = Self {
            czxid,
            mzxid,
            ctime_ms,
            mtime_ms,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            data_length,
            num_children,
            pzxid,
        };
        Ok((input, stat))
    }
}

/// One entry of an ACL list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclRecord<'a> {
    pub permissions: i32,
    pub scheme: Text<'a>,
    pub id: Text<'a>,
}

impl<'a> AclRecord<'a> {
    pub fn new(permissions: i32, scheme: &'a str, id: &'a str) -> Self {
        Self {
            permissions,
            scheme: Some(Cow::Borrowed(scheme)),
            id: Some(Cow::Borrowed(id)),
        }
    }

    /// All permissions for everybody: what most clients send.
    pub fn open() -> Self {
        Self::new(31, "world", "anyone")
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.put_i32(self.permissions);
        jute::put_text(out, self.scheme.as_deref());
        jute::put_text(out, self.id.as_deref());
    }

    pub(crate) fn parse(input: &'a [u8]) -> Parse<'a, Self> {
        let (input, permissions) = jute::int(input)?;
        let (input, scheme) = jute::text(input)?;
        let (input, id) = jute::text(input)?;
        Ok((
            input,
            Self {
                permissions,
                scheme,
                id,
            },
        ))
    }
}

/// What happened to a watched znode. Servers send no other types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

/// A notification's body, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherEvent<'a> {
    /// An [`EventType`] from a well-behaved server; kept raw so that a test sees what really came.
    pub kind: i32,
    pub state: i32,
    pub path: Text<'a>,
}

impl<'a> WatcherEvent<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Parse<'a, Self> {
        let (input, kind) = jute::int(input)?;
        let (input, state) = jute::int(input)?;
        let (input, path) = jute::text(input)?;
        Ok((input, Self { kind, state, path }))
    }
}
