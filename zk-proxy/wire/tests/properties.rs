//! Properties over arbitrary requests, and a bounded mutation run of everything that decodes.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use oxkeeper_wire::{
    AclRecord, CheckRequest, ConnectRequest, CreateRequest, DecodeError, DeleteRequest, ErrorCode,
    MultiOp, MultiReadOp, OpCode, Request, SetDataRequest, Text, client, decode_body,
    decode_header, fuzz,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const MUTATION_RUN: Duration = Duration::from_secs(5);

/// Fields from which requests that borrow can be made.
#[derive(Clone, Debug)]
struct Fields {
    texts: Vec<Option<String>>,
    data: Option<Vec<u8>>,
    acl: Option<Vec<(i32, Option<String>, Option<String>)>>,
    number: i32,
    long: i64,
    flag: bool,
    create_flags: i32,
}

fn fields() -> impl Strategy<Value = Fields> {
    let string = || option::weighted(0.9, "[a-zé€/]{0,12}");
    let acl = option::weighted(0.9, vec((any::<i32>(), string(), string()), 0..4));
    let data = option::weighted(0.9, vec(any::<u8>(), 0..40));
    let numbers = (any::<i32>(), any::<i64>(), any::<bool>(), 0..=3);
    (vec(string(), 5..9), data, acl, numbers).prop_map(
        |(texts, data, acl, (number, long, flag, create_flags))| Fields {
            texts,
            data,
            acl,
            number,
            long,
            flag,
            create_flags,
        },
    )
}

impl Fields {
    fn text(&self, at: usize) -> Text<'_> {
        self.texts[at].as_deref().map(Cow::Borrowed)
    }

    fn list(&self, skip: usize) -> Vec<Text<'_>> {
        (skip..self.texts.len()).map(|at| self.text(at)).collect()
    }

    fn acl(&self) -> Option<Vec<AclRecord<'_>>> {
        let record =
            |(permissions, scheme, id): &(i32, Option<String>, Option<String>)| AclRecord {
                permissions: *permissions,
                scheme: scheme.clone().map(Cow::Owned),
                id: id.clone().map(Cow::Owned),
            };
        Some(self.acl.as_ref()?.iter().map(record).collect())
    }

    fn create(&self, op: OpCode) -> CreateRequest<'_> {
        let flags = match op {
            OpCode::CREATE_TTL => 5,
            OpCode::CREATE_CONTAINER => 4,
            _ => self.create_flags,
        };
        let ttl_ms = (op == OpCode::CREATE_TTL).then_some(self.long);
        CreateRequest {
            op,
            path: self.text(0),
            data: self.data.as_deref(),
            acl: self.acl(),
            flags,
            ttl_ms,
        }
    }

    fn creates(&self) -> [CreateRequest<'_>; 4] {
        [
            OpCode::CREATE,
            OpCode::CREATE2,
            OpCode::CREATE_CONTAINER,
            OpCode::CREATE_TTL,
        ]
        .map(|op| self.create(op))
    }

    fn set(&self) -> SetDataRequest<'_> {
        SetDataRequest {
            path: self.text(0),
            data: self.data.as_deref(),
            version: self.number,
        }
    }

    fn multi(&self) -> Vec<MultiOp<'_>> {
        // A null access list fails the whole multi.
        let creates = self
            .creates()
            .into_iter()
            .filter(|create| create.acl.is_some());
        let mut operations: Vec<_> = creates.map(MultiOp::Create).collect();
        operations.push(MultiOp::SetData(self.set()));
        operations.push(MultiOp::Delete(DeleteRequest {
            path: self.text(1),
            version: self.number,
        }));
        operations.push(MultiOp::Check(CheckRequest {
            path: self.text(2),
            version: self.number,
        }));
        operations
    }

    fn multi_read(&self) -> Vec<MultiReadOp<'_>> {
        vec![
            MultiReadOp::GetData {
                path: self.text(0),
                watch: self.flag,
            },
            MultiReadOp::GetChildren {
                path: self.text(1),
                watch: self.flag,
            },
        ]
    }

    /// One of every kind of request that has a record.
    fn requests(&self) -> Vec<Request<'_>> {
        let path = || self.text(0);
        let (watch, kind) = (self.flag, self.number);
        let mut requests: Vec<_> = self.creates().map(Request::Create).into();
        requests.extend([
            Request::Delete(DeleteRequest {
                path: path(),
                version: kind,
            }),
            Request::Exists {
                path: path(),
                watch,
            },
            Request::GetData {
                path: path(),
                watch,
            },
            Request::SetData(self.set()),
            Request::GetAcl { path: path() },
            Request::SetAcl {
                path: path(),
                acl: self.acl(),
                version: kind,
            },
            Request::GetChildren {
                path: path(),
                watch,
            },
            Request::GetChildren2 {
                path: path(),
                watch,
            },
            Request::Sync { path: path() },
            Request::Check(CheckRequest {
                path: path(),
                version: kind,
            }),
            Request::Multi(self.multi()),
            Request::MultiRead(self.multi_read()),
            Request::CheckWatches { path: path(), kind },
            Request::RemoveWatches { path: path(), kind },
            Request::AddWatch {
                path: path(),
                mode: kind,
            },
            Request::Auth {
                kind,
                scheme: path(),
                auth: self.data.as_deref(),
            },
            Request::Sasl {
                token: self.data.as_deref(),
            },
            Request::GetEphemerals { prefix: path() },
            Request::GetAllChildrenNumber { path: path() },
        ]);
        requests.extend([self.reconfig(), self.set_watches(), self.set_watches2()]);
        requests
    }

    fn reconfig(&self) -> Request<'_> {
        let (joining, leaving, new_members) = (self.text(0), self.text(1), self.text(2));
        Request::Reconfig {
            joining,
            leaving,
            new_members,
            config_id: self.long,
        }
    }

    fn set_watches(&self) -> Request<'_> {
        Request::SetWatches {
            relative_zxid: self.long,
            data: Some(self.list(0)),
            exist: Some(self.list(2)),
            child: Some(vec![]),
        }
    }

    fn set_watches2(&self) -> Request<'_> {
        Request::SetWatches2 {
            relative_zxid: self.long,
            data: Some(self.list(1)),
            exist: None,
            child: Some(self.list(0)),
            persistent: Some(self.list(3)),
            persistent_recursive: Some(self.list(4)),
        }
    }
}

/// The body of the encoded request.
fn encoded(request: &Request<'_>) -> BytesMut {
    let mut frame = BytesMut::new();
    client::encode_request(&mut frame, -5, request);
    assert_eq!(frame.get_i32() as usize, frame.len());
    let mut rest = &frame[..];
    let header = decode_header(&mut rest).unwrap();
    assert_eq!((header.xid, header.op), (-5, request.op()));
    frame.advance(8);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn requests_survive_encoding_and_decoding(fields in fields()) {
        for request in fields.requests() {
            let body = encoded(&request);
            prop_assert_eq!(decode_body(request.op(), &body), Ok(request));
        }
    }

    #[test]
    fn every_truncation_of_a_request_is_an_error(fields in fields()) {
        for request in fields.requests() {
            let body = encoded(&request);
            for length in 0..body.len() {
                let result = decode_body(request.op(), &body[..length]);
                let code = result.as_ref().map_err(|fault| fault.code());
                prop_assert_eq!(code, Err(ErrorCode::MARSHALLING_ERROR), "{:?} cut to {}", request, length);
            }
        }
    }
}

#[test]
fn requests_without_a_record_need_no_bytes() {
    for request in [Request::Ping, Request::WhoAmI, Request::CloseSession] {
        assert_eq!(encoded(&request).len(), 0);
        assert_eq!(decode_body(request.op(), &[]), Ok(request));
    }
}

#[test]
fn unknown_operations_are_their_own_error() {
    for op in [-12, -2, -1, 0, 10, 23, 99, 108, 500, i32::MAX, i32::MIN].map(OpCode) {
        let fault = decode_body(op, &[0; 64]).unwrap_err();
        assert_eq!(fault, DecodeError::UnknownOperation(op));
        assert_eq!(fault.code(), ErrorCode::UNIMPLEMENTED);
    }
}

#[test]
fn lists_of_set_watches_may_be_null_and_counts_below_are_empty() {
    let body = |count: i32| {
        let mut body = vec![0; 8];
        body.extend([count, 0, 0].iter().flat_map(|count| count.to_be_bytes()));
        body
    };
    let request = |data| Request::SetWatches {
        relative_zxid: 0,
        data,
        exist: Some(vec![]),
        child: Some(vec![]),
    };
    assert_eq!(
        decode_body(OpCode::SET_WATCHES, &body(-1)),
        Ok(request(None))
    );
    assert_eq!(
        decode_body(OpCode::SET_WATCHES, &body(-5)),
        Ok(request(Some(vec![])))
    );
}

#[test]
fn reads_borrow_their_path_from_the_frame() {
    let body = encoded(&Request::GetData {
        path: Some("/some/path".into()),
        watch: false,
    });
    let Ok(Request::GetData {
        path: Some(Cow::Borrowed(path)),
        ..
    }) = decode_body(OpCode::GET_DATA, &body)
    else {
        panic!("a borrowed path");
    };
    assert!(body.as_ptr_range().contains(&path.as_ptr()));
}

/// xorshift64*: the same mutations in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const LENGTHS: [i32; 7] = [-1, -2, 0, 1, 1024, i32::MAX, i32::MIN];
        let at = self.roll(bytes.len().max(1));
        match self.roll(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.roll(256) as u8),
            2 => bytes.extend_from_within(at.min(bytes.len())..),
            3 if at + 4 <= bytes.len() => {
                bytes[at..at + 4].copy_from_slice(&LENGTHS[self.roll(LENGTHS.len())].to_be_bytes());
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
            _ => {}
        }
        bytes.truncate(4096);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let fields = Fields {
        texts: ["/a", "/é/b", "", "/c"]
            .map(|text| Some(text.to_owned()))
            .into_iter()
            .chain([None])
            .collect(),
        data: Some(vec![1, 2, 3]),
        acl: Some(vec![(31, Some("world".into()), Some("anyone".into()))]),
        number: -1,
        long: 77,
        flag: true,
        create_flags: 1,
    };
    let mut connect = BytesMut::new();
    ConnectRequest {
        read_only: Some(true),
        ..ConnectRequest::default()
    }
    .encode(&mut connect);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for request in fields.requests() {
        let mut stream = connect.clone();
        client::encode_request(&mut stream, 1, &request);
        client::encode_request(&mut stream, 2, &Request::Ping);
        seeds.extend([encoded(&request).to_vec(), stream.to_vec()]);
    }
    seeds
}

#[test]
fn mutated_input_never_panics_and_what_decodes_encodes_again() {
    let seeds = seeds();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let started = Instant::now();
    let mut runs = 0_u64;
    while started.elapsed() < MUTATION_RUN {
        let mut bytes = seeds[dice.roll(seeds.len())].clone();
        for _ in 0..=dice.roll(6) {
            dice.mutate(&mut bytes);
        }
        fuzz::exercise(&bytes);
        runs += 1;
    }
    assert!(runs > 1000, "only {runs} inputs in {MUTATION_RUN:?}");
}
