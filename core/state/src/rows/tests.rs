//! Rows: golden bytes, round trips, sizes, and bytes that are no row.

use oxkeeper_model::{
    Acl, AclEntry, Attachment, Children, Digest, FeatureLevel, Head, Lifetime, NativeFields, Nonce,
    Offset, OpError, OpResult, Path, Revision, SessionId, ShardUuid, Term, TxnOutcome, WriteSeq,
};
use proptest::prelude::*;

use super::*;

const ACL_ID: u64 = 300;

fn list() -> Acl {
    [AclEntry {
        permissions: 31,
        scheme: "world".into(),
        id: "anyone".into(),
    }]
    .into()
}

fn usual_head() -> Head {
    Head {
        created_revision: Revision(5_000_000),
        modified_revision: Revision(5_000_100),
        created_at_ms: 1_700_000_000_000,
        modified_at_ms: 1_700_000_060_000,
        modifications_count: 3,
        version_id: 4_000_000,
        acl: list(),
        acl_version: 0,
        session: None,
        children: Children {
            live: 10,
            created_ever: 12,
            last_change: Revision(5_000_050),
        },
        lifetime: Lifetime::Persistent,
        idle_since_ms: 0,
        value_bytes: Some(100),
        native: None,
    }
}

fn encoded(head: &Head) -> Vec<u8> {
    let mut out = Vec::new();
    encode_head(&mut out, head, ACL_ID);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_head_has_its_persisted_bytes_and_is_small() {
    let row = encoded(&usual_head());
    let expected = concat!(
        "0200",         // format, flags
        "ac02",         // access list
        "c096b102",     // created revision
        "c801",         // modified 100 later
        "80a0abfef962", // created at
        "c0a907",       // modified a minute later
        "06",           // version 3
        "8092f401",     // version id
        "00",           // access list version
        "0a0c64",       // children: live, created ever, last change 50 after creation
        "65",           // a value of 100 bytes
    );
    assert_eq!(hex(&row), expected);
    assert!(row.len() <= 32, "{} bytes", row.len());
}

#[test]
fn a_small_value_of_a_leaf_follows_its_head() {
    let mut head = usual_head();
    head.children.created_ever = 0;
    for (value_bytes, place) in [
        (None, ValuePlace::Nowhere),
        (Some(0), ValuePlace::Nowhere),
        (Some(1), ValuePlace::AfterHead),
        (Some(256), ValuePlace::AfterHead),
        (Some(257), ValuePlace::OwnRow),
    ] {
        head.value_bytes = value_bytes;
        assert_eq!(value_place(&head), place, "{value_bytes:?}");
    }
    head.value_bytes = Some(3);
    let mut row = encoded(&head);
    row.extend_from_slice(b"abc");
    assert_eq!(
        decode_head(&row, |_| Some(list())),
        Ok((head.clone(), &b"abc"[..]))
    );
    row.push(0);
    assert_eq!(
        decode_head(&row, |_| Some(list())),
        Err(RowError::Malformed("head"))
    );
    head.children.created_ever = 1;
    assert_eq!(value_place(&head), ValuePlace::OwnRow);
}

#[test]
fn flags_name_lifetime_owner_and_native_fields() {
    let mut head = usual_head();
    head.lifetime = Lifetime::Ephemeral;
    head.session = Some(SessionId(0x0102_0304_0506_0708));
    head.value_bytes = None;
    head.native = Some(Box::new(NativeFields {
        client_identity: Some("c".into()),
        partition_key: None,
        secondary_indexes: vec![("i".into(), "k".into())],
    }));
    let row = hex(&encoded(&head));
    assert!(row.starts_with("020dac02"), "{row}");
    assert!(
        row.ends_with("00010203040506070801016300010169016b"),
        "{row}"
    );
    head.lifetime = Lifetime::Ttl { ttl_ms: 128 };
    head.idle_since_ms = 129;
    (head.session, head.native) = (None, None);
    let row = hex(&encoded(&head));
    assert!(
        row.starts_with("0203") && row.ends_with("0080018101"),
        "{row}"
    );
}

#[test]
fn meta_has_its_persisted_bytes() {
    let meta = Meta {
        shard: ShardUuid([0x5a; 16]),
        applied: Offset(1),
        term: Term(10),
        feature_level: FeatureLevel(11),
        revision: Revision(2),
        wall_ms: 3,
        elapsed_ms: 12,
        sessions_ever: 4,
        puts: 5,
        next_acl_id: 6,
        digest: Digest(7),
        revision_digest: Digest(13),
        counters: Counters {
            records: 8,
            ephemerals: 9,
            data_bytes: 128,
        },
        secret: Some([0xaa; 32]),
    };
    let mut row = Vec::new();
    meta.encode(&mut row);
    let expected = format!(
        "02{}010a0b02060c0405060000000000000007000000000000000d080980010{}{}",
        "5a".repeat(16),
        1,
        "aa".repeat(32)
    );
    assert_eq!(hex(&row), expected);
    assert_eq!(Meta::decode(&row), Ok(meta));
}

#[test]
fn access_lists_and_sessions_have_their_persisted_bytes() {
    let mut row = Vec::new();
    encode_acl_row(&mut row, 200, &list());
    assert_eq!(hex(&row), "01c801013e05776f726c6406616e796f6e65");
    assert_eq!(decode_acl_row(&row), Ok((200, list())));

    let failed = TxnOutcome::Failed {
        index: 1,
        error: OpError::NotEmpty,
    };
    let done = TxnOutcome::Applied(vec![OpResult::Deleted, OpResult::Checked].into());
    let kept = |seq, revision, outcome| Kept {
        seq: WriteSeq(seq),
        revision: Revision(revision),
        outcome,
    };
    let outcomes = [kept(6, 300, failed), kept(9, 301, done)];
    let session = SessionRow {
        attachment: Attachment(2),
        nonce: Nonce(0x0a0b),
        timeout_ms: 10_000,
        last_seq: WriteSeq(9),
        ephemerals: 3,
        outcomes: outcomes.iter(),
    };
    let mut row = Vec::new();
    encode_session(&mut row, &session);
    assert_eq!(
        hex(&row),
        "02020000000000000a0b904e09030206ac020201060009ad0201020405"
    );
}

#[test]
fn an_unknown_format_is_named() {
    let mut row = encoded(&usual_head());
    for format in [1, 3] {
        row[0] = format;
        let error = RowError::UnknownFormat {
            row: "head",
            format,
            known: 2,
        };
        assert_eq!(decode_head(&row, |_| Some(list())), Err(error));
        let advice = if format == 1 {
            "an empty data folder"
        } else {
            "a later one"
        };
        assert!(error.to_string().contains(advice), "{error}");
    }
    row[0] = 2;
    assert_eq!(
        decode_head(&row, |_| None),
        Err(RowError::UnknownAcl(ACL_ID))
    );
    row.push(0);
    assert_eq!(
        decode_head(&row, |_| Some(list())),
        Err(RowError::Malformed("head"))
    );
    assert_eq!(decode_acl_row(&[]), Err(RowError::Malformed("acl")));
}

fn text() -> impl Strategy<Value = Box<str>> {
    "[a-zé]{0,5}".prop_map(Into::into)
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        Just(Lifetime::Persistent),
        Just(Lifetime::Ephemeral),
        Just(Lifetime::Container),
        any::<u64>().prop_map(|ttl_ms| Lifetime::Ttl { ttl_ms }),
    ]
}

/// Often of a record without children.
fn numbers() -> impl Strategy<Value = [u64; 6]> {
    (any::<[u64; 6]>(), any::<bool>()).prop_map(|(mut numbers, leaf)| {
        if leaf {
            numbers[3] = 0;
        }
        numbers
    })
}

fn head() -> impl Strategy<Value = Head> {
    let native = (
        proptest::option::of(text()),
        proptest::option::of(text()),
        proptest::collection::vec((text(), text()), 0..3),
    )
        .prop_map(|(client_identity, partition_key, secondary_indexes)| {
            Box::new(NativeFields {
                client_identity,
                partition_key,
                secondary_indexes,
            })
        });
    (
        (numbers(), any::<([i64; 2], [i32; 2], u32)>()),
        lifetime(),
        any::<Option<i64>>(),
        proptest::option::of(prop_oneof![0..300u32, 0..u32::MAX]),
        proptest::option::of(native),
    )
        .prop_map(
            |((numbers, (times, versions, live)), lifetime, session, value_bytes, native)| Head {
                created_revision: Revision(numbers[0]),
                modified_revision: Revision(numbers[1]),
                created_at_ms: times[0],
                modified_at_ms: times[1],
                modifications_count: versions[0],
                version_id: numbers[2],
                acl: list(),
                acl_version: versions[1],
                session: session.map(SessionId),
                children: Children {
                    live,
                    created_ever: numbers[3],
                    last_change: Revision(numbers[4]),
                },
                lifetime,
                idle_since_ms: if lifetime.ages() { numbers[5] } else { 0 },
                value_bytes,
                native,
            },
        )
}

fn outcome() -> impl Strategy<Value = TxnOutcome> {
    let result = prop_oneof![
        (text(), head()).prop_map(|(path, head)| OpResult::Created {
            path: Path::from(&*path),
            head: head.into()
        }),
        head().prop_map(|head| OpResult::ValueSet { head: head.into() }),
        head().prop_map(|head| OpResult::AclSet { head: head.into() }),
        Just(OpResult::Deleted),
        Just(OpResult::Checked),
        (
            head(),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9))
        )
            .prop_map(|(head, value)| OpResult::Got {
                head: head.into(),
                value: value.map(Into::into)
            }),
    ];
    prop_oneof![
        proptest::collection::vec(result, 0..4)
            .prop_map(|results| TxnOutcome::Applied(results.into())),
        (any::<u32>(), error()).prop_map(|(index, error)| TxnOutcome::Failed { index, error }),
    ]
}

fn kept() -> impl Strategy<Value = Kept> {
    (any::<(u64, u64)>(), outcome()).prop_map(|((seq, revision), outcome)| Kept {
        seq: WriteSeq(seq),
        revision: Revision(revision),
        outcome,
    })
}

fn error() -> impl Strategy<Value = OpError> {
    prop_oneof![
        Just(OpError::NoNode),
        Just(OpError::NoAuth),
        Just(OpError::BadVersion),
        Just(OpError::NoChildrenForEphemerals),
        Just(OpError::NodeExists),
        Just(OpError::NotEmpty),
        Just(OpError::BadArguments),
        any::<i32>().prop_map(OpError::FrontEnd),
    ]
}

proptest! {
    #[test]
    fn heads_round_trip(head in head()) {
        let mut row = encoded(&head);
        let value = match value_place(&head) {
            ValuePlace::AfterHead => vec![7; head.value_bytes.unwrap_or(0) as usize],
            _ => Vec::new(),
        };
        row.extend_from_slice(&value);
        let decoded = decode_head(&row, |id| (id == ACL_ID).then(list));
        prop_assert_eq!(decoded, Ok((head, value.as_slice())));
    }

    #[test]
    fn sessions_round_trip(
        (attachment, nonce, timeout_ms, last_seq, ephemerals) in any::<(u64, u64, u32, u64, u64)>(),
        outcomes in proptest::collection::vec(kept(), 0..4),
    ) {
        let (attachment, nonce, last_seq) =
            (Attachment(attachment), Nonce(nonce), WriteSeq(last_seq));
        let mut bytes = Vec::new();
        let borrowed = SessionRow {
            attachment, nonce, timeout_ms, last_seq, ephemerals, outcomes: outcomes.iter(),
        };
        encode_session(&mut bytes, &borrowed);
        let expected =
            SessionRow { attachment, nonce, timeout_ms, last_seq, ephemerals, outcomes };
        prop_assert_eq!(decode_session(&bytes), Ok(expected));
    }

    #[test]
    fn damaged_rows_are_errors_or_other_rows_but_never_panic(
        head in head(), at: u16, flip: u8, keep: u16,
    ) {
        let mut row = encoded(&head);
        let at = usize::from(at) % row.len();
        row[at] ^= flip;
        row.truncate(usize::from(keep) % (row.len() + 1));
        let _ = decode_head(&row, |_| Some(list()));
        let _ = decode_session(&row);
        let _ = Meta::decode(&row);
        let _ = decode_acl_row(&row);
    }
}
