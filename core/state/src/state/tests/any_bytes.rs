//! Whatever a client can bring into the log, no shard stops at it.
//!
//! Requests are translated before they come here, but nothing here relies on what the translation
//! lets through: paths, lists, identities and numbers are anything that a log entry can hold. Each
//! entry is encoded and decoded as the log does it, applied, and applied again as a re-send.

use bytes::Bytes;
use oxkeeper_model::{
    Acl, AclEntry, Attachment, ClientCommand, Command, Create, Digest, FeatureLevel, Identity,
    Lifetime, Nonce, Offset, Ops, SessionId, SessionWrite, TreeOp, WriteSeq, limits,
};
use proptest::prelude::*;

use super::fixture::*;

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(/[ab]){1,3}",
        1 => "/zookeeper/quota(/a){0,2}/zookeeper_(limits|stats)",
        1 => Just("/zookeeper/quota".to_owned()),
        1 => Just(String::new()),
        1 => "[/a\u{0}.]{0,6}",
        1 => any::<String>(),
        1 => Just("/a".repeat(40_000)),
    ]
}

fn values() -> impl Strategy<Value = Option<Bytes>> {
    let text = prop_oneof![
        Just("count=9223372036854775807,bytes=-9223372036854775808".to_owned()),
        Just("count=1,bytes=2=;byteHardLimit=3".to_owned()),
        any::<String>(),
    ];
    proptest::option::of(text.prop_map(Bytes::from))
}

fn lists() -> impl Strategy<Value = Acl> {
    let entry = (any::<i32>(), "(world|ip|)", "(anyone|::1/200|1.2.3.4/x|)").prop_map(
        |(permissions, scheme, id)| AclEntry {
            permissions,
            scheme: scheme.into(),
            id: id.into(),
        },
    );
    prop_oneof![
        3 => Just(open_acl()),
        1 => proptest::collection::vec(entry, 0..4).prop_map(Acl::from),
    ]
}

fn lifetimes() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        3 => Just(Lifetime::Persistent),
        3 => Just(Lifetime::Ephemeral),
        1 => Just(Lifetime::Container),
        1 => any::<u64>().prop_map(|ttl_ms| Lifetime::Ttl { ttl_ms }),
    ]
}

fn ops() -> impl Strategy<Value = TreeOp> {
    let version = || proptest::option::weighted(0.3, any::<i32>());
    prop_oneof![
        4 => (texts(), values(), lists(), lifetimes(), any::<[bool; 2]>()).prop_map(
            |(path, value, acl, lifetime, [sequential, malformed])| {
                let malformed = malformed && sequential;
                TreeOp::Create(Create {
                    path: path.into(), value, acl, lifetime, sequential, malformed,
                })
            }
        ),
        2 => (texts(), values(), version()).prop_map(|(path, value, expected_version)| {
            TreeOp::SetValue { path: path.into(), value, expected_version }
        }),
        1 => (texts(), lists(), version())
            .prop_map(|(path, list, version)| set_acl(&path, list, version)),
        2 => (texts(), version()).prop_map(|(path, version)| delete_at(&path, version)),
        1 => (texts(), version()).prop_map(|(path, version)| check(&path, version)),
        1 => texts().prop_map(|path| get(&path)),
        1 => any::<i32>().prop_map(|code| TreeOp::Refused { code }),
    ]
}

/// Small ones, which may be right, and any.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..4u64, 1 => any::<u64>()]
}

/// Those that the shard gives out, and any.
fn sessions() -> impl Strategy<Value = SessionId> {
    prop_oneof![
        6 => (1..4i64).prop_map(|count| SessionId((1 << 48) | count)),
        1 => any::<i64>().prop_map(SessionId),
    ]
}

fn client_commands() -> impl Strategy<Value = ClientCommand> {
    let identity = ("[a-z]{0,3}", any::<String>()).prop_map(|(scheme, id)| Identity {
        scheme: scheme.into(),
        id: id.into(),
    });
    let identities = proptest::collection::vec(identity, 0..3);
    let ops = proptest::collection::vec(ops(), 0..4);
    let write = (sessions(), any::<[u8; 3]>(), numbers(), identities, ops).prop_map(
        |(session, [attachment, seq, follows], acknowledged, identities, ops)| SessionWrite {
            session,
            attachment: Attachment(u64::from(attachment % 3)),
            seq: WriteSeq(u64::from(seq % 4)),
            follows: WriteSeq(u64::from(follows % 4)),
            acknowledged: WriteSeq(acknowledged),
            identities: identities.into(),
            ops: Ops::from_vec(ops),
        },
    );
    prop_oneof![
        6 => write.prop_map(ClientCommand::Write),
        2 => (numbers(), any::<u32>()).prop_map(|(nonce, timeout_ms)| {
            ClientCommand::OpenSession { nonce: Nonce(nonce), timeout_ms }
        }),
        1 => (sessions(), any::<[u8; 16]>(), numbers(), any::<u32>()).prop_map(
            |(session, password, replaces, timeout_ms)| ClientCommand::Attach {
                session,
                password,
                replaces: Attachment(replaces),
                nonce: Nonce(replaces),
                timeout_ms,
            }
        ),
        1 => (sessions(), numbers(), numbers(), numbers()).prop_map(
            |(session, attachment, seq, follows)| ClientCommand::CloseSession {
                session,
                attachment: Attachment(attachment),
                seq: WriteSeq(seq),
                follows: WriteSeq(follows),
            }
        ),
    ]
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => client_commands().prop_map(Command::Client),
        1 => (sessions(), numbers()).prop_map(|(session, attachment)| Command::ExpireSession {
            session, attachment: Attachment(attachment),
        }),
        1 => texts().prop_map(|path| Command::Reap { path: path.into() }),
        1 => (sessions(), numbers(), numbers()).prop_map(|(session, attachment, seq)| {
            let acknowledged = (session, Attachment(attachment), WriteSeq(seq));
            Command::Acknowledge { sessions: vec![acknowledged] }
        }),
        1 => (numbers(), any::<u64>()).prop_map(|(offset, digest)| Command::Checksum {
            offset: Offset(offset), digest: Digest(digest),
        }),
        1 => Just(Command::FeatureLevel { level: limits::FEATURE_LEVEL_MAX }),
        1 => Just(Command::FeatureLevel { level: FeatureLevel(0) }),
        1 => Just(genesis()),
        1 => Just(Command::TermStart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_command_stops_a_shard(
        seeded: bool,
        entries in proptest::collection::vec(
            (proptest::collection::vec(commands(), 1..6), any::<i64>(), any::<u64>(), any::<bool>()),
            1..16,
        ),
    ) {
        let mut shard = if seeded { Shard::with_small_ends() } else { Shard::empty() };
        shard.through_the_log = true;
        for (commands, wall_ms, elapsed_ms, again) in entries {
            (shard.now_ms, shard.elapsed_ms) = (wall_ms, elapsed_ms);
            if again {
                shard.apply(commands.clone());
            }
            shard.apply(commands);
        }
        shard.state.freeze().expect("frozen").open().expect("opened");
        shard.state.start_checkpoint().expect("started").wait().expect("flushed");
        shard.disk.crash();
        shard.state = open_state(&shard.disk, SMALL_ENDS);
        shard.check();
    }
}
