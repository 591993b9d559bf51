//! HTTP/2: frames with the requests in them, and compressed fields alone.
//!
//! What a block of fields grows to is bounded by its limits, whatever its table repeats.

use proto::h1::{HeadLimits, RequestHead};
use proto::h2::hpack::{BlockLimits, Decoder, huffman};
use proto::h2::{Event, Receiver, RequestReader, Role, Violation};

use crate::dice::Dice;

pub(crate) const FRAMES: &[&[u8]] = &[
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x05",
    b"\0\0\x08\x06\0\0\0\0\x0012345678",
    b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x09",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\x05\x02\0\0\0\0\x03\0\0\0\0\x10",
    b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a",
    b"\0\0\x06\x01\x04\0\0\0\x03\x82\x86\x84\xbe\x01a",
    b"\0\0\x02\x01\0\0\0\0\x05\x82\x86",
    b"\0\0\x05\x09\x04\0\0\0\x05\x84\x40\x01x\0",
    b"\0\0\x05\0\x01\0\0\0\x03hello",
    b"\0\0\x05\0\x08\0\0\0\x03\x02ab\0\0",
    b"\0\0\x03\x2a\0\0\0\0\0abc",
    b"\0\0\x09\x07\0\0\0\0\0\0\0\0\0\0\0\0\0!",
];

const TOTAL: usize = 4096;

/// All that a connection says until it ends, with bodies as one text.
fn hear(dice: &mut Dice, input: &[u8]) -> (Vec<String>, Vec<u8>, Option<Violation>) {
    let mut receiver = Receiver::new(Role::Server, 100, TOTAL);
    let (mut decoder, mut said, mut bodies) = (Decoder::default(), Vec::new(), Vec::new());
    let (mut at, mut end) = (0, 0);
    while end < input.len() {
        end += 1 + dice.roll(input.len() - end);
        loop {
            let step = match receiver.next(input.get(at..end).unwrap_or_default()) {
                Ok(step) => step,
                Err(violation) => return (said, bodies, Some(violation)),
            };
            at += step.used;
            match step.event {
                None if step.used == 0 => break,
                None => {}
                Some(Event::Headers(frame, mut block)) => {
                    let mut limits = BlockLimits { field: 1000, total: TOTAL };
                    let (mut text, mut head) = (Vec::new(), RequestHead::default());
                    let mut reader = RequestReader::default();
                    loop {
                        match decoder.next(&mut block, &mut limits, &mut text) {
                            Ok(None) => break,
                            Ok(Some(field)) => {
                                reader.field(field, &mut head, &text, &HeadLimits::default());
                            }
                            Err(violation) => return (said, bodies, Some(violation)),
                        }
                    }
                    let finished = reader.finish(&mut head, &mut text);
                    said.push(format!("{frame:?} {finished:?} {}", text.escape_ascii()));
                }
                Some(Event::Data { bytes, .. }) => bodies.extend_from_slice(bytes),
                Some(event) => said.push(format!("{event:?}")),
            }
        }
    }
    (said, bodies, None)
}

pub(crate) fn frames(text: &[u8]) {
    let whole = hear(&mut Dice::new(u64::MAX), text);
    let pieces = hear(&mut Dice::of(text), text);
    // An error may show earlier in a piece of a frame than in all of it, but never another one.
    assert_eq!((&whole.0, whole.2), (&pieces.0, pieces.2));
    assert_eq!(whole.1, pieces.1);
}

pub(crate) const BLOCKS: &[&[u8]] = &[
    b"\x82",
    b"\x86\x84",
    b"\xbe",
    b"\xc0",
    b"\x40\x01x\x01y",
    b"\x40\x81\xf3\x81\xff",
    b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
    b"\x0f\x2f\x03abc",
    b"\x10\x02ab\x7f\x80\x80\x01",
    b"\x3f\xe1\x1f",
    b"\x20",
    b"\x7f\xff\xff\xff\xff\x0f",
    b"\x40\x03abc\x7f\x81\x01aaaaaaaaaaaaaaaa",
    b"\0",
];

pub(crate) fn hpack(text: &[u8]) {
    let mut decoder = Decoder::with_limit(256);
    // Several blocks on one connection share a table.
    for mut block in text.chunks(64) {
        let mut limits = BlockLimits { field: 200, total: 1000 };
        let mut out = Vec::new();
        while let Ok(Some(_)) = decoder.next(&mut block, &mut limits, &mut out) {}
        assert!(out.len() <= 2 * 1000, "{} bytes of fields", out.len());
    }
}

pub(crate) fn huffman(text: &[u8]) {
    let mut plain = Vec::new();
    if huffman::decode(text, &mut plain).is_ok() {
        // The shortest code has five bits.
        assert!(plain.len() <= text.len() * 8 / 5);
        let mut again = Vec::new();
        huffman::encode(&plain, &mut again);
        assert_eq!(again.len(), huffman::encoded_len(&plain));
        assert!(again.len() <= text.len());
    }
    let (mut code, mut back) = (Vec::new(), Vec::new());
    huffman::encode(text, &mut code);
    assert!(huffman::decode(&code, &mut back).is_ok());
    assert_eq!(back, text);
}
