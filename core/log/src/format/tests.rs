use super::*;

const HEADER: SegmentHeader = SegmentHeader {
    uuid: ShardUuid(*b"uuid of a shard."),
    generation: 0x1122,
    tag: 0x0102_0304_0506_0708,
    bytes: 1 << 20,
    before: LogPoint {
        offset: Offset(40),
        term: Term(3),
        chain: Chain(0x1020_3040_5060_7080),
    },
    seed: 0xaabb_ccdd,
    starts_log: true,
};
const TAG: u64 = 0x7766_5544_3322_1100;
const PREVIOUS: u32 = 0x3322_1100;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn record() -> (Vec<u8>, u32) {
    let mut buffer = Vec::new();
    let new = NewRecord {
        tag: TAG,
        previous_sum: PREVIOUS,
        kind: Kind::Entry,
        point: HEADER.before.after(Offset(41), Term(3), b"hello"),
        synced: Offset(38),
    };
    let sum = encode_record(&mut buffer, new, b"hello");
    (buffer, sum)
}

fn decode(bytes: &[u8]) -> Result<RecordHeader, Stop> {
    let mut header = [0; RECORD_HEADER_BYTES];
    header.copy_from_slice(&bytes[..RECORD_HEADER_BYTES]);
    let header = RecordHeader::decode(&header, TAG)?;
    match sum_of(PREVIOUS, bytes) == header.sum {
        true => Ok(header),
        false => Err(Stop::Checksum),
    }
}

#[test]
fn the_segment_header_has_its_golden_bytes() {
    let (block, sum) = HEADER.encode();
    assert_eq!(block.len(), 4096);
    assert_eq!(
        hex(&block[..88]),
        concat!(
            "6f786b2d77616c0a0200000001000000",
            "75756964206f6620612073686172642e",
            "22110000000000000807060504030201",
            "00001000000000002800000000000000",
            "03000000000000008070605040302010",
            "ddccbbaa",
            "3b17ba03"
        )
    );
    assert_eq!(hex(&sum.to_le_bytes()), hex(&block[84..88]));
    assert!(block[88..].iter().all(|&byte| byte == 0));
}

#[test]
fn the_record_has_its_golden_bytes() {
    let (bytes, sum) = record();
    assert_eq!(
        hex(&bytes),
        concat!(
            "00112233445566770500000000000000",
            "29000000000000000300000000000000",
            "26000000000000004106818a2545cac5",
            "49ebe759b1a46f37",
            "68656c6c6f000000"
        )
    );
    assert_eq!(hex(&sum.to_le_bytes()), hex(&bytes[52..56]));
}

#[test]
fn the_end_record_has_its_golden_bytes() {
    let bytes = encode_end(TAG, PREVIOUS, HEADER.before, 0x1123);
    assert_eq!(bytes.len() as u64, END_RECORD_BYTES);
    assert_eq!(
        hex(&bytes),
        concat!(
            "00112233445566770800000001000000",
            "29000000000000000300000000000000",
            "28000000000000008070605040302010",
            "d49b47d00dc5aa42",
            "2311000000000000"
        )
    );
    let header = decode(&bytes).expect("it was just encoded");
    assert_eq!((header.kind, header.offset), (Kind::End, Offset(41)));
}

#[test]
fn headers_survive_the_round_trip_and_no_flipped_bit_does() {
    let (mut block, sum) = HEADER.encode();
    let decoded = SegmentHeader::decode(&block);
    assert_eq!(decoded, Ok((HEADER, sum)));
    assert_eq!(HEADER.base(), Offset(41));
    for bit in 0..block.len() * 8 {
        block[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&block).is_err(), "bit {bit}");
        block[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn records_survive_the_round_trip_and_no_flipped_bit_does() {
    let (mut bytes, sum) = record();
    let header = decode(&bytes).expect("it was just encoded");
    let point = HEADER.before.after(Offset(41), Term(3), b"hello");
    assert_eq!(header.point(), point);
    assert_eq!((header.kind, header.payload_bytes), (Kind::Entry, 5));
    assert_eq!(header.record_bytes(), bytes.len());
    assert_eq!(header.proves(), Offset(38));
    assert_eq!(header.sum, sum);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn the_sum_depends_on_every_record_before() {
    let (bytes, sum) = record();
    assert_ne!(sum_of(PREVIOUS + 1, &bytes), sum);
}

#[test]
fn other_versions_are_named() {
    let (mut block, _) = HEADER.encode();
    for version in [1, 3] {
        block[8] = version;
        let bad = BadHeader::Version(u32::from(version));
        assert_eq!(SegmentHeader::decode(&block), Err(bad));
    }
}

#[test]
fn what_is_whole_but_unknown_is_told_from_what_is_torn() {
    let change = |at: usize, value: u32| {
        let (mut bytes, _) = record();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let sum = crc32c(&bytes[..RECORD_SUM_AT]);
        bytes[RECORD_SUM_AT..CHAINED_SUM_AT].copy_from_slice(&sum.to_le_bytes());
        decode(&bytes).expect_err("it is not known")
    };
    let limit = ENTRY_BYTES_MAX as u32;
    assert_eq!(change(8, limit + 1), Stop::UnknownLength(limit + 1));
    assert_eq!(change(12, 2), Stop::UnknownKind(2));
    assert_eq!(change(12, KIND_END), Stop::UnknownLength(5));
    assert!(change(12, 2).is_unknown() && !change(12, 2).may_be_torn());
    assert!(!Stop::Checksum.is_unknown() && Stop::Checksum.may_be_torn());
}

#[test]
fn only_the_logs_own_names_are_taken() {
    assert_eq!(file_name(0x1f, SEGMENT_SUFFIX), "000000000000001f.wal");
    assert_eq!(
        file_number("000000000000001f.wal", SEGMENT_SUFFIX),
        Some(31)
    );
    for name in [
        "1f.wal",
        "000000000000001F.wal",
        "+00000000000001f.wal",
        "000000000000001f.spare",
        "ffffffffffffffff.wal",
        "LOCK",
    ] {
        assert_eq!(file_number(name, SEGMENT_SUFFIX), None, "{name}");
    }
}
