//! The frame codec on streams cut at every place, and on bad lengths.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

use bytes::{BufMut, BytesMut};
use oxkeeper_wire::limits::PACKET_BYTES_MAX;
use oxkeeper_wire::{
    CodecError, ConnectRequest, FourLetterWord, FrameError, Inbound, ServerCodec, Word, next_frame,
};

fn handshake() -> (ConnectRequest, BytesMut) {
    let request = ConnectRequest {
        timeout_ms: 10_000,
        read_only: Some(false),
        ..ConnectRequest::default()
    };
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes);
    (request, bytes)
}

fn connected() -> ServerCodec {
    let mut codec = ServerCodec::default();
    let (request, mut bytes) = handshake();
    assert_eq!(
        codec.decode(&mut bytes).unwrap(),
        Some(Inbound::Connect(request))
    );
    codec
}

#[test]
fn a_stream_cut_anywhere_gives_the_same_items() {
    let (request, mut stream) = handshake();
    stream.put_i32(2);
    stream.put_slice(b"ab");
    stream.put_i32(4);
    stream.put_slice(b"ruok");
    let expected = [
        Inbound::Connect(request),
        Inbound::Frame((&b"ab"[..]).into()),
        Inbound::Frame((&b"ruok"[..]).into()),
    ];
    for cut in 0..=stream.len() {
        let mut codec = ServerCodec::default();
        let mut buffer = BytesMut::new();
        let mut items = Vec::new();
        for part in [&stream[..cut], &stream[cut..]] {
            buffer.put_slice(part);
            while let Some(item) = codec.decode(&mut buffer).unwrap() {
                items.push(item);
            }
        }
        assert_eq!(items, expected, "cut at {cut}");
        assert!(buffer.is_empty());
    }
}

#[test]
fn every_word_is_recognised_even_byte_by_byte() {
    for &word in Word::ALL.iter().filter(|&&word| word != Word::Stmk) {
        let mut codec = ServerCodec::default();
        let mut buffer = BytesMut::new();
        for byte in word.as_str().bytes().take(3) {
            buffer.put_u8(byte);
            assert_eq!(codec.decode(&mut buffer).unwrap(), None);
        }
        buffer.put_slice(&word.as_str().as_bytes()[3..]);
        buffer.put_slice(b"\n");
        let item = codec.decode(&mut buffer).unwrap();
        assert_eq!(
            item,
            Some(Inbound::FourLetterWord(FourLetterWord {
                word,
                argument: None
            }))
        );
        buffer.put_slice(b"more");
        assert_eq!(
            codec.decode(&mut buffer).unwrap(),
            None,
            "nothing follows a word"
        );
        assert!(buffer.is_empty());
    }
}

#[test]
fn who_refuses_the_trace_mask_does_not_wait_for_it() {
    let mut codec = ServerCodec::default();
    codec.refuse_trace_mask();
    let word = FourLetterWord {
        word: Word::Stmk,
        argument: None,
    };
    assert_eq!(
        codec.decode(&mut BytesMut::from(&b"stmk"[..])).unwrap(),
        Some(Inbound::FourLetterWord(word))
    );
}

#[test]
fn the_trace_mask_follows_its_word() {
    let mut codec = ServerCodec::default();
    let mut buffer = BytesMut::from(&b"stmk"[..]);
    assert_eq!(codec.decode(&mut buffer).unwrap(), None);
    buffer.put_i64(306);
    let word = FourLetterWord {
        word: Word::Stmk,
        argument: Some(306),
    };
    assert_eq!(
        codec.decode(&mut buffer).unwrap(),
        Some(Inbound::FourLetterWord(word))
    );
}

#[test]
fn a_word_on_an_established_session_is_a_bad_length() {
    let mut buffer = BytesMut::from(&b"ruok"[..]);
    let error = connected().decode(&mut buffer).unwrap_err();
    assert!(matches!(error, CodecError::Frame(FrameError(0x7275_6f6b))));
}

#[test]
fn the_packet_limit_is_inclusive() {
    let mut buffer = BytesMut::new();
    buffer.put_i32(PACKET_BYTES_MAX as i32);
    buffer.put_bytes(0, PACKET_BYTES_MAX);
    let item = connected().decode(&mut buffer).unwrap();
    assert!(matches!(item, Some(Inbound::Frame(frame)) if frame.len() == PACKET_BYTES_MAX));
    for length in [PACKET_BYTES_MAX as i32 + 1, i32::MAX, 0, -1, i32::MIN] {
        let mut buffer = BytesMut::new();
        buffer.put_i32(length);
        let error = connected().decode(&mut buffer).unwrap_err();
        assert!(
            matches!(error, CodecError::Frame(FrameError(bad)) if bad == length),
            "{length}"
        );
        assert!(
            ServerCodec::default().decode(&mut buffer).is_err(),
            "as a handshake, {length}"
        );
    }
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut codec = connected();
    let mut buffer = BytesMut::with_capacity(64);
    buffer.put_i32(PACKET_BYTES_MAX as i32);
    buffer.put_slice(b"start");
    assert_eq!(codec.decode(&mut buffer).unwrap(), None);
    assert!(buffer.capacity() <= 64);
}

#[test]
fn a_malformed_handshake_is_an_error() {
    for length in [1, 43] {
        let mut buffer = BytesMut::new();
        buffer.put_i32(length);
        buffer.put_bytes(0x7f, length as usize);
        assert!(
            matches!(
                ServerCodec::default().decode(&mut buffer),
                Err(CodecError::Handshake(_))
            ),
            "{length}"
        );
    }
}

#[test]
fn frames_can_be_read_in_place() {
    let bytes = [0, 0, 0, 2, 7, 8, 0, 0];
    assert_eq!(next_frame(&bytes, 10), Ok(Some(&[7, 8][..])));
    assert_eq!(next_frame(&bytes[..5], 10), Ok(None));
    assert_eq!(next_frame(&bytes[..3], 10), Ok(None));
    assert_eq!(next_frame(&bytes, 1), Err(FrameError(2)));
}
