//! Model → bytes, by hand. Field numbers are those of `log.proto`.

use bytes::Bytes;
use oxkeeper_model::{
    AclEntry, ClientCommand, Command, Entry, Identity, Lifetime, NativeFields, SeedRecord,
    SessionId, SessionWrite, TreeOp,
};

use crate::FORMAT_VERSION;
use crate::out::{Count, Out};
use crate::varint::zigzag;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

/// What an entry has besides its commands, at most: four numbers with their keys.
pub const ENTRY_HEADER_BYTES_MAX: usize = 4 * 11;

/// Appends the entry to `out`, whose capacity the caller reuses.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) {
    uint(out, 1, u64::from(FORMAT_VERSION));
    uint(out, 2, entry.term.0);
    sint(out, 3, entry.wall_ms);
    for each in &entry.commands {
        entry_command(out, each);
    }
    uint(out, 5, entry.elapsed_ms);
}

/// Bytes that a command takes in an entry, without encoding it. With [`ENTRY_HEADER_BYTES_MAX`] they
/// say whether the log would take it.
pub fn encoded_len(command: &Command) -> usize {
    let mut count = Count::default();
    entry_command(&mut count, command);
    count.bytes()
}

fn entry_command(out: &mut impl Out, each: &Command) {
    message(out, 4, |out| command(out, each));
}

fn command(out: &mut impl Out, command: &Command) {
    match command {
        Command::Genesis { secret, seed } => message(out, 1, |out| {
            bytes(out, 1, secret);
            for each in seed {
                message(out, 2, |out| seed_record(out, each));
            }
        }),
        Command::TermStart => message(out, 2, |_| {}),
        Command::Client(command) => client_command(out, command),
        Command::ExpireSession {
            session,
            attachment,
        } => message(out, 7, |out| {
            session_id(out, 1, *session);
            uint(out, 2, attachment.0);
        }),
        Command::Reap { path } => message(out, 8, |out| string(out, 1, path)),
        Command::Acknowledge { sessions } => message(out, 9, |out| {
            for (session, attachment, up_to) in sessions {
                message(out, 1, |out| {
                    session_id(out, 1, *session);
                    uint(out, 2, attachment.0);
                    uint(out, 3, up_to.0);
                });
            }
        }),
        Command::Time => message(out, 10, |_| {}),
        Command::Checksum { offset, digest } => message(out, 11, |out| {
            uint(out, 1, offset.0);
            fixed64(out, 2, digest.0);
        }),
        Command::FeatureLevel { level } => {
            message(out, 12, |out| uint(out, 1, u64::from(level.0)));
        }
    }
}

fn client_command(out: &mut impl Out, command: &ClientCommand) {
    match command {
        ClientCommand::Write(write) => message(out, 3, |out| session_write(out, write)),
        ClientCommand::OpenSession { nonce, timeout_ms } => message(out, 4, |out| {
            uint(out, 1, u64::from(*timeout_ms));
            fixed64(out, 2, nonce.0);
        }),
        ClientCommand::Attach {
            session,
            password,
            replaces,
            nonce,
            timeout_ms,
        } => message(out, 5, |out| {
            session_id(out, 1, *session);
            bytes(out, 2, password);
            uint(out, 3, u64::from(*timeout_ms));
            uint(out, 4, replaces.0);
            fixed64(out, 5, nonce.0);
        }),
        ClientCommand::CloseSession {
            session,
            attachment,
            seq,
            follows,
        } => message(out, 6, |out| {
            session_id(out, 1, *session);
            uint(out, 2, attachment.0);
            uint(out, 3, seq.0);
            uint(out, 4, follows.0);
        }),
    }
}

fn session_write(out: &mut impl Out, write: &SessionWrite) {
    session_id(out, 1, write.session);
    uint(out, 2, write.attachment.0);
    uint(out, 3, write.seq.0);
    uint(out, 4, write.acknowledged.0);
    for each in write.identities.iter() {
        message(out, 5, |out| identity(out, each));
    }
    for each in &write.ops {
        message(out, 6, |out| tree_op(out, each));
    }
    uint(out, 7, write.follows.0);
}

fn tree_op(out: &mut impl Out, op: &TreeOp) {
    match op {
        TreeOp::Create(create) => message(out, 1, |out| {
            string(out, 1, &create.path);
            optional_bytes(out, 2, create.value.as_ref());
            acl_entries(out, 3, &create.acl);
            let (kind, ttl_ms) = lifetime_fields(create.lifetime);
            uint(out, 4, kind);
            uint(out, 5, u64::from(create.sequential));
            uint(out, 6, u64::from(create.malformed));
            uint(out, 7, ttl_ms);
        }),
        TreeOp::SetValue {
            path,
            value,
            expected_version,
        } => message(out, 2, |out| {
            string(out, 1, path);
            optional_bytes(out, 2, value.as_ref());
            optional_sint(out, 3, *expected_version);
        }),
        TreeOp::SetAcl {
            path,
            acl,
            expected_version,
        } => message(out, 3, |out| {
            string(out, 1, path);
            acl_entries(out, 2, acl);
            optional_sint(out, 3, *expected_version);
        }),
        TreeOp::Delete {
            path,
            expected_version,
        } => message(out, 4, |out| {
            string(out, 1, path);
            optional_sint(out, 2, *expected_version);
        }),
        TreeOp::Check {
            path,
            expected_version,
        } => message(out, 5, |out| {
            string(out, 1, path);
            optional_sint(out, 2, *expected_version);
        }),
        TreeOp::Get { path } => message(out, 6, |out| string(out, 1, path)),
        TreeOp::Refused { code } => message(out, 7, |out| sint(out, 1, i64::from(*code))),
    }
}

fn seed_record(out: &mut impl Out, seed: &SeedRecord) {
    let head = &seed.record.head;
    string(out, 1, &seed.path);
    uint(out, 2, head.created_revision.0);
    uint(out, 3, head.modified_revision.0);
    sint(out, 4, head.created_at_ms);
    sint(out, 5, head.modified_at_ms);
    sint(out, 6, i64::from(head.modifications_count));
    uint(out, 7, head.version_id);
    acl_entries(out, 8, &head.acl);
    sint(out, 9, i64::from(head.acl_version));
    session_id(out, 10, head.session.unwrap_or_default());
    uint(out, 11, u64::from(head.children.live));
    uint(out, 12, head.children.created_ever);
    uint(out, 13, head.children.last_change.0);
    let (kind, ttl_ms) = lifetime_fields(head.lifetime);
    uint(out, 14, kind);
    uint(out, 15, ttl_ms);
    optional_bytes(out, 16, seed.record.value.as_ref());
    if let Some(native) = &head.native {
        message(out, 17, |out| native_fields(out, native));
    }
    uint(out, 18, head.idle_since_ms);
}

fn native_fields(out: &mut impl Out, native: &NativeFields) {
    for (field, text) in [(1, &native.client_identity), (2, &native.partition_key)] {
        if let Some(text) = text {
            delimited(out, field, text.as_bytes());
        }
    }
    for (name, key) in &native.secondary_indexes {
        message(out, 3, |out| {
            string(out, 1, name);
            string(out, 2, key);
        });
    }
}

fn identity(out: &mut impl Out, identity: &Identity) {
    string(out, 1, &identity.scheme);
    string(out, 2, &identity.id);
}

fn acl_entries(out: &mut impl Out, field: u32, acl: &[AclEntry]) {
    for each in acl {
        message(out, field, |out| {
            sint(out, 1, i64::from(each.permissions));
            string(out, 2, &each.scheme);
            string(out, 3, &each.id);
        });
    }
}

fn lifetime_fields(lifetime: Lifetime) -> (u64, u64) {
    match lifetime {
        Lifetime::Persistent => (0, 0),
        Lifetime::Ephemeral => (1, 0),
        Lifetime::Container => (2, 0),
        Lifetime::Ttl { ttl_ms } => (3, ttl_ms),
    }
}

// The protobuf encoding. Fields with their default value are left out, as proto3 does.

fn key(out: &mut impl Out, field: u32, wire_type: u32) {
    out.varint(u64::from(field << 3 | wire_type));
}

fn uint(out: &mut impl Out, field: u32, value: u64) {
    if value != 0 {
        key(out, field, VARINT);
        out.varint(value);
    }
}

fn sint(out: &mut impl Out, field: u32, value: i64) {
    uint(out, field, zigzag(value));
}

fn optional_sint(out: &mut impl Out, field: u32, value: Option<i32>) {
    if let Some(value) = value {
        key(out, field, VARINT);
        out.varint(zigzag(i64::from(value)));
    }
}

fn fixed64(out: &mut impl Out, field: u32, value: u64) {
    if value != 0 {
        key(out, field, FIXED64);
        out.extend(&value.to_le_bytes());
    }
}

fn session_id(out: &mut impl Out, field: u32, session: SessionId) {
    fixed64(out, field, session.0 as u64);
}

fn delimited(out: &mut impl Out, field: u32, content: &[u8]) {
    key(out, field, LENGTH_DELIMITED);
    out.varint(content.len() as u64);
    out.extend(content);
}

fn bytes(out: &mut impl Out, field: u32, content: &[u8]) {
    if !content.is_empty() {
        delimited(out, field, content);
    }
}

fn string(out: &mut impl Out, field: u32, text: &str) {
    bytes(out, field, text.as_bytes());
}

fn optional_bytes(out: &mut impl Out, field: u32, content: Option<&Bytes>) {
    if let Some(content) = content {
        delimited(out, field, content);
    }
}

fn message<O: Out>(out: &mut O, field: u32, body: impl FnOnce(&mut O)) {
    key(out, field, LENGTH_DELIMITED);
    out.nested(body);
}
