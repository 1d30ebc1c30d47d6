//! The log format: golden bytes, round trips, and bytes that are no entry.

use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_model::{
    Acl, AclEntry, Attachment, Children, ClientCommand, Command, Create, Entry, Head, Identities,
    Identity, Lifetime, NativeFields, Path, Record, Revision, SeedRecord, SessionId, SessionWrite,
    Term, TreeOp, WriteSeq,
};
use oxkeeper_proto::log::v1 as proto;
use proptest::prelude::*;
use prost::Message;

use super::{FormatError, decode, encode};

fn encoded(entry: &Entry) -> Bytes {
    let mut out = Vec::new();
    encode(entry, &mut out);
    out.into()
}

fn text() -> impl Strategy<Value = Box<str>> {
    "[a-zé/]{0,9}".prop_map(Into::into)
}

fn path() -> impl Strategy<Value = Path> {
    // Up to what needs three bytes of length.
    prop_oneof!["[a-zé/]{0,40}", "x{100,140}", "y{16300,16400}"].prop_map(Path::from)
}

fn value() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from))
}

fn list() -> impl Strategy<Value = Acl> {
    let entry = (any::<i32>(), text(), text()).prop_map(|(permissions, scheme, id)| AclEntry {
        permissions,
        scheme,
        id,
    });
    proptest::collection::vec(entry, 0..3).prop_map(Acl::from)
}

fn identities() -> impl Strategy<Value = Identities> {
    let identity = (text(), text()).prop_map(|(scheme, id)| Identity { scheme, id });
    proptest::collection::vec(identity, 0..3).prop_map(Identities::from)
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        Just(Lifetime::Persistent),
        Just(Lifetime::Ephemeral),
        Just(Lifetime::Container),
        any::<u64>().prop_map(|ttl_ms| Lifetime::Ttl { ttl_ms }),
    ]
}

fn op() -> impl Strategy<Value = TreeOp> {
    let version = || any::<Option<i32>>();
    prop_oneof![
        (
            path(),
            value(),
            list(),
            lifetime(),
            any::<bool>(),
            any::<bool>()
        )
            .prop_map(|(path, value, acl, lifetime, sequential, malformed)| {
                TreeOp::Create(Create {
                    path,
                    value,
                    acl,
                    lifetime,
                    sequential,
                    malformed,
                })
            }),
        (path(), value(), version()).prop_map(|(path, value, expected_version)| {
            TreeOp::SetValue {
                path,
                value,
                expected_version,
            }
        }),
        (path(), list(), version()).prop_map(|(path, acl, expected_version)| TreeOp::SetAcl {
            path,
            acl,
            expected_version
        }),
        (path(), version()).prop_map(|(path, expected_version)| TreeOp::Delete {
            path,
            expected_version
        }),
        (path(), version()).prop_map(|(path, expected_version)| TreeOp::Check {
            path,
            expected_version
        }),
        path().prop_map(|path| TreeOp::Get { path }),
        any::<i32>().prop_map(|code| TreeOp::Refused { code }),
    ]
}

fn native() -> impl Strategy<Value = NativeFields> {
    let option = || proptest::option::of(text());
    (
        option(),
        option(),
        proptest::collection::vec((text(), text()), 0..3),
    )
        .prop_map(
            |(client_identity, partition_key, secondary_indexes)| NativeFields {
                client_identity,
                partition_key,
                secondary_indexes,
            },
        )
}

fn record() -> impl Strategy<Value = Record> {
    let numbers = (
        any::<[u64; 5]>(),
        any::<[i64; 2]>(),
        any::<[i32; 2]>(),
        any::<u32>(),
    );
    let session = proptest::option::of((1..=i64::MAX).prop_map(SessionId));
    let native = proptest::option::of(native().prop_map(Box::new));
    (numbers, list(), lifetime(), session, native, value()).prop_map(
        |((revisions, times, versions, live), acl, lifetime, session, native, value)| {
            let head = Head {
                created_revision: Revision(revisions[0]),
                modified_revision: Revision(revisions[1]),
                created_at_ms: times[0],
                modified_at_ms: times[1],
                modifications_count: versions[0],
                version_id: revisions[2],
                acl,
                acl_version: versions[1],
                session,
                children: Children {
                    live,
                    created_ever: revisions[3],
                    last_change: Revision(revisions[4]),
                },
                lifetime,
                value_bytes: value.as_ref().map(|value| value.len() as u32),
                native,
            };
            Record { head, value }
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let session = || any::<i64>().prop_map(SessionId);
    let attachment = || any::<u64>().prop_map(Attachment);
    let seq = || any::<u64>().prop_map(WriteSeq);
    let seeds = (path(), record()).prop_map(|(path, record)| SeedRecord { path, record });
    let write = (
        session(),
        attachment(),
        seq(),
        seq(),
        identities(),
        proptest::collection::vec(op(), 0..4),
    );
    prop_oneof![
        (any::<[u8; 32]>(), proptest::collection::vec(seeds, 0..3))
            .prop_map(|(secret, seed)| Command::Genesis { secret, seed }),
        Just(Command::TermStart),
        write.prop_map(
            |(session, attachment, seq, acknowledged, identities, ops)| {
                let ops = ops.into();
                Command::Client(ClientCommand::Write(SessionWrite {
                    session,
                    attachment,
                    seq,
                    acknowledged,
                    identities,
                    ops,
                }))
            }
        ),
        any::<u32>()
            .prop_map(|timeout_ms| Command::Client(ClientCommand::OpenSession { timeout_ms })),
        (session(), any::<[u8; 16]>(), any::<u32>()).prop_map(|(session, password, timeout_ms)| {
            Command::Client(ClientCommand::Attach {
                session,
                password,
                timeout_ms,
            })
        }),
        (session(), attachment(), seq()).prop_map(|(session, attachment, seq)| {
            Command::Client(ClientCommand::CloseSession {
                session,
                attachment,
                seq,
            })
        }),
        (session(), attachment()).prop_map(|(session, attachment)| Command::ExpireSession {
            session,
            attachment
        }),
        path().prop_map(|path| Command::Reap { path }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (
        any::<u64>(),
        any::<i64>(),
        proptest::collection::vec(command(), 0..4),
    )
        .prop_map(|(term, at_ms, commands)| Entry {
            term: Term(term),
            at_ms,
            commands,
        })
}

proptest! {
    #[test]
    fn entries_round_trip(entry in entry()) {
        let bytes = encoded(&entry);
        prop_assert_eq!(decode(&bytes), Ok(entry));
    }

    #[test]
    fn the_hand_written_encoding_is_the_generated_one(entry in entry()) {
        let bytes = encoded(&entry);
        let generated = proto::Entry::decode(bytes.clone()).expect("decodes");
        prop_assert_eq!(Bytes::from(generated.encode_to_vec()), bytes);
    }

    #[test]
    fn any_bytes_are_an_entry_or_an_error(
        entry in entry(), cut in any::<prop::sample::Index>(), flips in any::<[(u16, u8); 3]>(),
    ) {
        let mut bytes = encoded(&entry).to_vec();
        for (at, flip) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= flip;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        // Either answer is fine; a panic is not.
        let _ = decode(&bytes.into());
    }
}

fn sample() -> Entry {
    let acl: Acl = Arc::new([AclEntry {
        permissions: 31,
        scheme: "world".into(),
        id: "anyone".into(),
    }]);
    let write = SessionWrite {
        session: SessionId(0x0102_0304_0506_0708),
        attachment: Attachment(1),
        seq: WriteSeq(300),
        acknowledged: WriteSeq(299),
        identities: Arc::new([Identity {
            scheme: "ip".into(),
            id: "::1".into(),
        }]),
        ops: vec![
            TreeOp::Create(Create {
                path: "/a".into(),
                value: Some(Bytes::new()),
                acl,
                lifetime: Lifetime::Ttl { ttl_ms: 5 },
                sequential: true,
                malformed: false,
            }),
            TreeOp::Delete {
                path: "/b".into(),
                expected_version: Some(-2),
            },
            TreeOp::Refused { code: -114 },
        ]
        .into(),
    };
    Entry {
        term: Term(7),
        at_ms: 1000,
        commands: vec![
            Command::TermStart,
            Command::Client(ClientCommand::Write(write)),
        ],
    }
}

#[test]
fn an_entry_has_its_persisted_bytes() {
    let hex: String = encoded(&sample())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = concat!(
        "08011007", // version, term
        "18d00f",   // time
        "22021200", // term start
        "22521a50", // write
        "090807060504030201",
        "1001",
        "18ac02",
        "20ab02",
        "2a090a026970", // identity
        "12033a3a31",
        "32210a1f", // create
        "0a022f611200",
        "1a11083e1205776f726c641a06616e796f6e65",
        "200328013805",
        "3208220", // delete
        "60a022f621003",
        "32053a0308e301", // refused
    );
    assert_eq!(hex, expected);
}

#[test]
fn an_unknown_version_is_named() {
    let mut bytes = encoded(&sample()).to_vec();
    bytes[1] = 2;
    assert_eq!(decode(&bytes.into()), Err(FormatError::UnknownVersion(2)));
    assert_eq!(decode(&Bytes::new()), Err(FormatError::UnknownVersion(0)));
}
