//! What application servers and memcached answer.
//!
//! As with HTTP/1, pieces must come to the same as the whole.

use proto::h1::{Progress, ResponseHead};
use proto::{cgi, fastcgi, memcached as cached};

use crate::dice::{Dice, fed};

pub(crate) const RECORDS: &[&[u8]] = &[
    b"\x01\x06\0\x01\0\x03\0\0abc",
    b"\x01\x06\0\x01\0\x02\x06\0de######",
    b"\x01\x06\0\x01\0\0\0\0",
    b"\x01\x07\0\x01\0\x02\0\0no",
    b"\x01\x07\0\x01\0\0\x01\0#",
    b"\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0",
    b"\x01\x06\0\x01\xff\xff\xff\0",
    b"\x01",
    b"x",
];

/// What a stream of records comes to, handed over in pieces that `next_piece` cuts.
fn gathered(text: &[u8], mut next_piece: impl FnMut(usize) -> usize) -> (Vec<u8>, Vec<u8>, String) {
    let (mut out, mut err, mut ends) = (Vec::new(), Vec::new(), String::new());
    let mut records = fastcgi::Records::default();
    let mut from = 0;
    while from < text.len() {
        let piece = text.get(from..).unwrap_or_default();
        let piece = piece.get(..next_piece(piece.len())).unwrap_or_default();
        from += piece.len();
        let mut rest = piece;
        loop {
            let (used, event) = match records.next(rest) {
                Ok(next) => next,
                Err(error) => return (out, err, format!("{ends}{error}")),
            };
            let of = |range| rest.get::<std::ops::Range<usize>>(range).expect("a range of the input");
            match event {
                fastcgi::Event::Stdout(range) => out.extend_from_slice(of(range)),
                fastcgi::Event::Stderr(range) => err.extend_from_slice(of(range)),
                fastcgi::Event::StdoutEnd => ends.push('o'),
                fastcgi::Event::RequestEnd => ends.push('r'),
                fastcgi::Event::Finished => ends.push('f'),
                fastcgi::Event::NeedMore => break,
            }
            rest = rest.get(used..).expect("no more than there is");
        }
    }
    (out, err, ends)
}

pub(crate) fn fastcgi_records(text: &[u8]) {
    let mut dice = Dice::of(text);
    let whole = gathered(text, |left| left);
    assert_eq!(whole, gathered(text, |left| dice.roll(left) + 1));
}

pub(crate) const CGI: &[&[u8]] = &[
    b"Status: 200 OK\r\n",
    b"Status: 40\n",
    b"Status",
    b"Location: /\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1",
    b"A: b\n",
    b": ",
    b"\r\n",
    b"\n",
    b"\0",
];

pub(crate) fn cgi_head(text: &[u8]) {
    let (mut whole, mut pieces) = (ResponseHead::default(), ResponseHead::default());
    let result = cgi::parse(&mut whole, text, 80, 3);
    let in_pieces = fed(text, |text| {
        Some(cgi::parse(&mut pieces, text, 80, 3)).filter(|result| *result != Ok(Progress::Partial))
    });
    assert_eq!(in_pieces.unwrap_or(Ok(Progress::Partial)), result);
    if result == Ok(Progress::Complete) {
        let _ = cgi::set_status(&mut whole, text);
        assert!(whole.length <= text.len());
    }
}

pub(crate) const CACHED: &[&[u8]] = &[
    b"VALUE ",
    b"k",
    b" 0",
    b" 5",
    b" 3\r\n",
    b"\r\n",
    b"END",
    b"abc",
    b"\n",
    b"END\r\n",
    b"9999999999999999999",
];

pub(crate) fn memcached(text: &[u8]) {
    for flags in [cached::Flags::Ignored, cached::Flags::Wanted] {
        let result = cached::parse(text, b"k", flags);
        let in_pieces = fed(text, |text| {
            Some(cached::parse(text, b"k", flags)).filter(|result| *result != Ok(cached::Line::Partial))
        });
        assert_eq!(in_pieces.unwrap_or(Ok(cached::Line::Partial)), result);
        let Ok(cached::Line::Value { length, used, .. }) = result else { continue };
        let mut value = cached::Value::new(length);
        let rest = text.get(used..).expect("no more than there is");
        let (cached::Step::Data(count) | cached::Step::End(count) | cached::Step::Invalid(count)) =
            value.next(rest);
        assert!(count <= rest.len() && count as u64 <= length);
    }
}
