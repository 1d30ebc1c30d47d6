use super::*;

const HEADER: SegmentHeader = SegmentHeader {
    generation: 0x1122,
    salt: 0x0102_0304_0506_0708,
    base: Offset(41),
    seed: 0xaabb_ccdd,
    starts_log: true,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn record() -> (Vec<u8>, u32) {
    let mut buffer = Vec::new();
    let new = NewRecord {
        tag: 0x7766_5544,
        previous_chain: 0x3322_1100,
        offset: Offset(42),
        term: Term(3),
        unsynced: 2,
    };
    let chain = encode_record(&mut buffer, new, b"hello");
    (buffer, chain)
}

#[test]
fn the_segment_header_has_its_golden_bytes() {
    let block = HEADER.encode();
    assert_eq!(block.len(), 4096);
    assert_eq!(
        hex(&block[..64]),
        concat!(
            "6f786b2d77616c0a010000000100000022110000000000000807060504030201",
            "2900000000000000ddccbbaa00000000000000000000000000000000305ab4e2"
        )
    );
    assert!(block[64..].iter().all(|&byte| byte == 0));
}

#[test]
fn the_record_has_its_golden_bytes() {
    let (bytes, chain) = record();
    assert_eq!(
        hex(&bytes),
        concat!(
            "44556677050000002a0000000000000003000000000000000200000000000000",
            "f8d18ff03392c384",
            "68656c6c6f000000"
        )
    );
    assert_eq!(hex(&chain.to_le_bytes()), "3392c384");
}

#[test]
fn headers_survive_the_round_trip_and_no_flipped_bit_does() {
    let mut block = HEADER.encode();
    let (header, tag) = SegmentHeader::decode(&block).expect("it was just encoded");
    assert_eq!(header, HEADER);
    assert_eq!(tag, u32_at(&block, TAG_AT));
    for bit in 0..block.len() * 8 {
        block[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&block).is_err(), "bit {bit}");
        block[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn records_survive_the_round_trip_and_no_flipped_bit_does() {
    let (mut bytes, chain) = record();
    let check = |bytes: &[u8]| {
        let mut header = [0; RECORD_HEADER_BYTES];
        header.copy_from_slice(&bytes[..RECORD_HEADER_BYTES]);
        let header = RecordHeader::decode(&header, 0x7766_5544)?;
        if chain_of(0x3322_1100, bytes) != header.chain {
            return Err(Stop::Chain);
        }
        Ok(header)
    };
    let header = check(&bytes).expect("it was just encoded");
    assert_eq!(header.offset, Offset(42));
    assert_eq!(header.term, Term(3));
    assert_eq!(header.payload_bytes, 5);
    assert_eq!(header.record_bytes(), bytes.len());
    assert_eq!(header.durable_before(), Offset(39));
    assert_eq!(header.chain, chain);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn the_chain_depends_on_every_record_before() {
    let (bytes, chain) = record();
    assert_ne!(chain_of(0x3322_1101, &bytes), chain);
}

#[test]
fn a_later_version_is_named() {
    let mut block = HEADER.encode();
    block[8] = 2;
    assert_eq!(SegmentHeader::decode(&block), Err(BadHeader::Version(2)));
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
