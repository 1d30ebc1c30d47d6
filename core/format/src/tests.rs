//! The log format: golden bytes, round trips, and bytes that are no entry.

use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_model::{
    Acl, AclEntry, Attachment, Children, ClientCommand, Command, Create, Digest, Entry,
    FeatureLevel, Head, Identities, Identity, Lifetime, NativeFields, Nonce, Offset, Path, Record,
    Revision, SeedRecord, SessionId, SessionWrite, Term, TreeOp, WriteSeq,
};
use oxkeeper_proto::log::v1 as proto;
use proptest::prelude::*;
use prost::Message;

use super::{ENTRY_HEADER_BYTES_MAX, FORMAT_VERSION, FormatError, decode, encode, encoded_len};

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
        any::<[u64; 6]>(),
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
                idle_since_ms: revisions[5],
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
    let nonce = || any::<u64>().prop_map(Nonce);
    let acknowledged = (session(), attachment(), seq());
    let seeds = (path(), record()).prop_map(|(path, record)| SeedRecord { path, record });
    let write = (
        session(),
        attachment(),
        seq(),
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
            |(session, attachment, seq, follows, acknowledged, identities, ops)| {
                let ops = ops.into();
                Command::Client(ClientCommand::Write(SessionWrite {
                    session,
                    attachment,
                    seq,
                    follows,
                    acknowledged,
                    identities,
                    ops,
                }))
            }
        ),
        (nonce(), any::<u32>()).prop_map(|(nonce, timeout_ms)| {
            Command::Client(ClientCommand::OpenSession { nonce, timeout_ms })
        }),
        (
            session(),
            any::<[u8; 16]>(),
            attachment(),
            nonce(),
            any::<u32>()
        )
            .prop_map(|(session, password, replaces, nonce, timeout_ms)| {
                Command::Client(ClientCommand::Attach {
                    session,
                    password,
                    replaces,
                    nonce,
                    timeout_ms,
                })
            }),
        (session(), attachment(), seq(), seq()).prop_map(|(session, attachment, seq, follows)| {
            Command::Client(ClientCommand::CloseSession {
                session,
                attachment,
                seq,
                follows,
            })
        }),
        (session(), attachment()).prop_map(|(session, attachment)| Command::ExpireSession {
            session,
            attachment
        }),
        path().prop_map(|path| Command::Reap { path }),
        proptest::collection::vec(acknowledged, 0..4)
            .prop_map(|sessions| Command::Acknowledge { sessions }),
        Just(Command::Time),
        any::<(u64, u64)>().prop_map(|(offset, digest)| Command::Checksum {
            offset: Offset(offset),
            digest: Digest(digest),
        }),
        any::<u32>().prop_map(|level| Command::FeatureLevel {
            level: FeatureLevel(level)
        }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (
        any::<u64>(),
        any::<i64>(),
        any::<u64>(),
        proptest::collection::vec(command(), 0..4),
    )
        .prop_map(|(term, wall_ms, elapsed_ms, commands)| Entry {
            term: Term(term),
            wall_ms,
            elapsed_ms,
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
    fn the_length_is_known_without_encoding(entry in entry()) {
        let commands: usize = entry.commands.iter().map(encoded_len).sum();
        let header = encoded(&entry).len() - commands;
        prop_assert!(header <= ENTRY_HEADER_BYTES_MAX, "{}", header);
        let mut empty = entry;
        empty.commands.clear();
        prop_assert_eq!(encoded(&empty).len(), header);
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
        follows: WriteSeq(298),
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
        wall_ms: 1000,
        elapsed_ms: 600,
        commands: vec![
            Command::TermStart,
            Command::Client(ClientCommand::Write(write)),
            Command::Client(ClientCommand::OpenSession {
                nonce: Nonce(0x0a0b),
                timeout_ms: 9,
            }),
            Command::Client(ClientCommand::Attach {
                session: SessionId(1),
                password: [0xbb; 16],
                replaces: Attachment(4),
                nonce: Nonce(2),
                timeout_ms: 9,
            }),
            Command::Client(ClientCommand::CloseSession {
                session: SessionId(1),
                attachment: Attachment(5),
                seq: WriteSeq(7),
                follows: WriteSeq(6),
            }),
            Command::Acknowledge {
                sessions: vec![(SessionId(1), Attachment(5), WriteSeq(3))],
            },
            Command::Time,
            Command::Checksum {
                offset: Offset(8),
                digest: Digest(0xcc),
            },
            Command::FeatureLevel {
                level: FeatureLevel(1),
            },
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
        "08021007", // version, term
        "18d00f",   // wall clock
        "22021200", // term start
        "22551a53", // write
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
        "32053a0308e301",                 // refused
        "38aa02",                         // follows
        "220d220b0809110b0a000000000000", // open
        "222a2a28090100000000000000",     // attach
        "1210bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "18092004290200000000000000",
        "2211320f090100000000000000100518072006", // close
        "22114a0f0a0d09010000000000000010051803", // acknowledge
        "22025200",                               // time
        "220d5a0b080811cc00000000000000",         // checksum
        "220462020801",                           // feature level
        "28d804",                                 // elapsed
    );
    assert_eq!(hex, expected);
}

#[test]
fn an_unknown_version_is_named() {
    for version in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
        let mut bytes = encoded(&sample()).to_vec();
        bytes[1] = version as u8;
        assert_eq!(
            decode(&bytes.into()),
            Err(FormatError::UnknownVersion(version))
        );
    }
    assert_eq!(decode(&Bytes::new()), Err(FormatError::UnknownVersion(0)));
}
