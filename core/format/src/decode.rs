//! Bytes → model, by way of the generated types. Never panics, whatever the bytes are.

use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_model::{
    Acl, AclEntry, Attachment, Children, ClientCommand, Command, Create, Digest, Entry,
    FeatureLevel, Head, Identity, Lifetime, NativeFields, Nonce, Offset, Path, Record, Revision,
    SeedRecord, SessionId, SessionWrite, Term, TreeOp, WriteSeq,
};
use oxkeeper_proto::log::v1 as proto;
use prost::Message;

use super::{FORMAT_VERSION, FormatError};

/// Reads what [`super::encode`] wrote. Values share `bytes`.
pub fn decode(bytes: &Bytes) -> Result<Entry, FormatError> {
    let entry = proto::Entry::decode(bytes.clone())?;
    if entry.format_version != FORMAT_VERSION {
        return Err(FormatError::UnknownVersion(entry.format_version));
    }
    Ok(Entry {
        term: Term(entry.term),
        wall_ms: entry.wall_ms,
        elapsed_ms: entry.elapsed_ms,
        commands: entry
            .commands
            .into_iter()
            .map(command)
            .collect::<Result<_, _>>()?,
    })
}

fn command(command: proto::Command) -> Result<Command, FormatError> {
    use proto::command::Kind;
    Ok(
        match command
            .kind
            .ok_or(FormatError::Invalid("unknown command"))?
        {
            Kind::Genesis(genesis) => Command::Genesis {
                secret: fixed(&genesis.secret, "the secret has not 32 bytes")?,
                seed: genesis
                    .seed
                    .into_iter()
                    .map(seed_record)
                    .collect::<Result<_, _>>()?,
            },
            Kind::TermStart(proto::TermStart {}) => Command::TermStart,
            Kind::Write(write) => Command::Client(ClientCommand::Write(session_write(write)?)),
            Kind::OpenSession(open) => Command::Client(ClientCommand::OpenSession {
                nonce: Nonce(open.nonce),
                timeout_ms: open.timeout_ms,
            }),
            Kind::Attach(attach) => Command::Client(ClientCommand::Attach {
                session: SessionId(attach.session),
                password: fixed(&attach.password, "the password has not 16 bytes")?,
                replaces: Attachment(attach.replaces),
                nonce: Nonce(attach.nonce),
                timeout_ms: attach.timeout_ms,
            }),
            Kind::CloseSession(close) => Command::Client(ClientCommand::CloseSession {
                session: SessionId(close.session),
                attachment: Attachment(close.attachment),
                seq: WriteSeq(close.seq),
                follows: WriteSeq(close.follows),
            }),
            Kind::ExpireSession(expire) => Command::ExpireSession {
                session: SessionId(expire.session),
                attachment: Attachment(expire.attachment),
            },
            Kind::Reap(reap) => Command::Reap {
                path: Path::from(reap.path),
            },
            Kind::Acknowledge(acknowledge) => Command::Acknowledge {
                sessions: acknowledge
                    .sessions
                    .into_iter()
                    .map(|each| {
                        let attachment = Attachment(each.attachment);
                        (SessionId(each.session), attachment, WriteSeq(each.up_to))
                    })
                    .collect(),
            },
            Kind::Time(proto::Time {}) => Command::Time,
            Kind::Checksum(checksum) => Command::Checksum {
                offset: Offset(checksum.offset),
                digest: Digest(checksum.digest),
            },
            Kind::FeatureLevel(raise) => Command::FeatureLevel {
                level: FeatureLevel(raise.level),
            },
        },
    )
}

fn fixed<const N: usize>(bytes: &[u8], error: &'static str) -> Result<[u8; N], FormatError> {
    bytes.try_into().map_err(|_| FormatError::Invalid(error))
}

fn session_write(write: proto::SessionWrite) -> Result<SessionWrite, FormatError> {
    Ok(SessionWrite {
        session: SessionId(write.session),
        attachment: Attachment(write.attachment),
        seq: WriteSeq(write.seq),
        follows: WriteSeq(write.follows),
        acknowledged: WriteSeq(write.acknowledged),
        identities: write
            .identities
            .into_iter()
            .map(|each| Identity {
                scheme: each.scheme.into(),
                id: each.id.into(),
            })
            .collect(),
        ops: write
            .ops
            .into_iter()
            .map(tree_op)
            .collect::<Result<_, _>>()?,
    })
}

fn tree_op(op: proto::TreeOp) -> Result<TreeOp, FormatError> {
    use proto::tree_op::Kind;
    Ok(
        match op.kind.ok_or(FormatError::Invalid("unknown operation"))? {
            Kind::Create(create) => TreeOp::Create(Create {
                path: Path::from(create.path),
                value: create.value,
                acl: acl(create.acl),
                lifetime: lifetime(create.lifetime, create.ttl_ms)?,
                sequential: create.sequential,
                malformed: create.malformed,
            }),
            Kind::SetValue(set) => TreeOp::SetValue {
                path: Path::from(set.path),
                value: set.value,
                expected_version: set.expected_version,
            },
            Kind::SetAcl(set) => TreeOp::SetAcl {
                path: Path::from(set.path),
                acl: acl(set.acl),
                expected_version: set.expected_version,
            },
            Kind::Delete(delete) => TreeOp::Delete {
                path: Path::from(delete.path),
                expected_version: delete.expected_version,
            },
            Kind::Check(check) => TreeOp::Check {
                path: Path::from(check.path),
                expected_version: check.expected_version,
            },
            Kind::Get(get) => TreeOp::Get {
                path: Path::from(get.path),
            },
            Kind::Refused(refused) => TreeOp::Refused { code: refused.code },
        },
    )
}

fn seed_record(seed: proto::SeedRecord) -> Result<SeedRecord, FormatError> {
    let value_bytes = match &seed.value {
        None => None,
        Some(value) => {
            Some(u32::try_from(value.len()).map_err(|_| FormatError::Invalid("value too long"))?)
        }
    };
    let head = Head {
        created_revision: Revision(seed.created_revision),
        modified_revision: Revision(seed.modified_revision),
        created_at_ms: seed.created_at_ms,
        modified_at_ms: seed.modified_at_ms,
        modifications_count: seed.modifications_count,
        version_id: seed.version_id,
        acl: acl(seed.acl),
        acl_version: seed.acl_version,
        session: (seed.session != 0).then_some(SessionId(seed.session)),
        children: Children {
            live: seed.live_children,
            created_ever: seed.children_created_ever,
            last_change: Revision(seed.children_last_change),
        },
        lifetime: lifetime(seed.lifetime, seed.ttl_ms)?,
        idle_since_ms: seed.idle_since_ms,
        value_bytes,
        native: seed.native.map(|native| Box::new(native_fields(native))),
    };
    Ok(SeedRecord {
        path: Path::from(seed.path),
        record: Record {
            head,
            value: seed.value,
        },
    })
}

fn native_fields(native: proto::NativeFields) -> NativeFields {
    NativeFields {
        client_identity: native.client_identity.map(String::into_boxed_str),
        partition_key: native.partition_key.map(String::into_boxed_str),
        secondary_indexes: native
            .secondary_indexes
            .into_iter()
            .map(|index| (index.name.into(), index.key.into()))
            .collect(),
    }
}

fn acl(entries: Vec<proto::AclEntry>) -> Acl {
    Arc::from_iter(entries.into_iter().map(|each| AclEntry {
        permissions: each.permissions,
        scheme: each.scheme.into(),
        id: each.id.into(),
    }))
}

fn lifetime(kind: i32, ttl_ms: u64) -> Result<Lifetime, FormatError> {
    Ok(match proto::Lifetime::try_from(kind) {
        Ok(proto::Lifetime::Persistent) => Lifetime::Persistent,
        Ok(proto::Lifetime::Ephemeral) => Lifetime::Ephemeral,
        Ok(proto::Lifetime::Container) => Lifetime::Container,
        Ok(proto::Lifetime::Ttl) => Lifetime::Ttl { ttl_ms },
        Err(_) => return Err(FormatError::Invalid("unknown lifetime")),
    })
}
