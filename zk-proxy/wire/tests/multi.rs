//! What ZooKeeper 3.9 accepts inside a multi, probed on a live 3.9.4.

use bytes::{BufMut, BytesMut};
use oxkeeper_wire::{DecodeError, ErrorCode, MultiOp, OpCode, Request, decode_body};

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i32(text.len() as i32);
    out.put_slice(text.as_bytes());
}

fn sub_header(out: &mut BytesMut, op: OpCode) {
    out.put_i32(op.0);
    out.put_u8(0);
    out.put_i32(-1);
}

fn end(out: &mut BytesMut) {
    out.put_i32(-1);
    out.put_u8(1);
    out.put_i32(-1);
}

fn create(op: OpCode, flags: i32) -> BytesMut {
    let mut out = BytesMut::new();
    sub_header(&mut out, op);
    put_text(&mut out, "/a");
    out.put_i32(-1);
    out.put_i32(0);
    out.put_i32(flags);
    if op == OpCode::CREATE_TTL {
        out.put_i64(1000);
    }
    end(&mut out);
    out
}

/// The operation that a sub-create turns out to be, with its TTL.
fn resolved(op: OpCode, flags: i32) -> Result<(OpCode, Option<i64>), DecodeError> {
    let body = create(op, flags);
    let Request::Multi(operations) = decode_body(OpCode::MULTI, &body)? else {
        panic!("a multi");
    };
    let [MultiOp::Create(create)] = &operations[..] else {
        panic!("one create, not {operations:?}");
    };
    assert_eq!(create.flags, flags);
    Ok((create.op, create.ttl_ms))
}

#[test]
fn the_flags_of_a_sub_create_decide_what_it_is() {
    for flags in 0..=3 {
        assert_eq!(resolved(OpCode::CREATE, flags), Ok((OpCode::CREATE, None)));
        assert_eq!(
            resolved(OpCode::CREATE2, flags),
            Ok((OpCode::CREATE2, None))
        );
        assert_eq!(
            resolved(OpCode::CREATE_CONTAINER, flags),
            Ok((OpCode::CREATE_CONTAINER, None))
        );
        assert_eq!(
            resolved(OpCode::CREATE_TTL, flags),
            Ok((OpCode::CREATE, None))
        );
    }
    for op in [
        OpCode::CREATE,
        OpCode::CREATE2,
        OpCode::CREATE_CONTAINER,
        OpCode::CREATE_TTL,
    ] {
        assert_eq!(resolved(op, 4), Ok((OpCode::CREATE_CONTAINER, None)));
    }
    for flags in 5..=6 {
        assert_eq!(
            resolved(OpCode::CREATE_TTL, flags),
            Ok((OpCode::CREATE_TTL, Some(1000)))
        );
    }
}

#[test]
fn bad_flags_spoil_the_multi_except_under_create_ttl() {
    for op in [OpCode::CREATE, OpCode::CREATE2, OpCode::CREATE_CONTAINER] {
        for flags in [-1, 5, 6, 7, 100] {
            assert_eq!(resolved(op, flags), Err(DecodeError::CreateFlags(flags)));
        }
    }
    for flags in [-1, 7, 100] {
        assert_eq!(
            resolved(OpCode::CREATE_TTL, flags),
            Ok((OpCode::CREATE_TTL, Some(1000)))
        );
    }
    assert_eq!(
        DecodeError::CreateFlags(7).code(),
        ErrorCode::MARSHALLING_ERROR
    );
}

#[test]
fn operations_of_the_wrong_kind_spoil_the_whole() {
    let mut watched = BytesMut::new();
    for op in [OpCode::EXISTS, OpCode::GET_DATA, OpCode::GET_CHILDREN2] {
        watched.clear();
        sub_header(&mut watched, op);
        put_text(&mut watched, "/");
        watched.put_u8(0);
        end(&mut watched);
        assert_eq!(
            decode_body(OpCode::MULTI, &watched),
            Err(DecodeError::SubOperation(op))
        );
    }
    assert!(
        decode_body(OpCode::MULTI_READ, &watched).is_err(),
        "getChildren2"
    );
    let mut check = BytesMut::new();
    sub_header(&mut check, OpCode::CHECK);
    put_text(&mut check, "/");
    check.put_i32(-1);
    end(&mut check);
    assert!(decode_body(OpCode::MULTI, &check).is_ok());
    assert_eq!(
        decode_body(OpCode::MULTI_READ, &check),
        Err(DecodeError::SubOperation(OpCode::CHECK))
    );
}

#[test]
fn a_multi_without_its_end_is_an_error() {
    let mut body = create(OpCode::CREATE, 0);
    body.truncate(body.len() - 9);
    assert_eq!(
        decode_body(OpCode::MULTI, &body),
        Err(DecodeError::Truncated)
    );
}
