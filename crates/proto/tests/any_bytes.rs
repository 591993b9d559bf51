//! Whatever bytes come, in whatever pieces, no parser panics and all pieces come to the same.
//!
//! The bytes are drawn from fragments that mean something, so that most of them get past the first line.

use proto::h1::{
    ChunkLimits, ChunkStep, ChunkedDecoder, HeadLimits, Method, Progress, RequestHead, ResponseHead,
    Trailers, request_framing, request_persistence, response_framing,
};
use proto::h2::hpack::{BlockLimits, Decoder};
use proto::h2::{Event, Receiver, RequestReader, Role, Violation};
use proto::uri::{self, MergeSlashes, Unescape};
use proto::{cgi, date, fastcgi, haproxy, memcached, range};

/// Small numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    fn text(&mut self, fragments: &[&[u8]]) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.roll(12) {
            text.extend_from_slice(fragments[self.roll(fragments.len())]);
        }
        if self.roll(3) == 0 && !text.is_empty() {
            let at = self.roll(text.len());
            text[at] = self.roll(256) as u8;
        }
        text
    }
}

/// Cuts `text` into pieces of any length, hands over all that has come and stops when told to.
fn fed<T: PartialEq>(dice: &mut Dice, text: &[u8], mut parse: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    let mut end = 0;
    loop {
        end += dice.roll(text.len() - end + 1);
        let result = parse(&text[..end]);
        if result.is_some() || end == text.len() {
            return result;
        }
    }
}

const HEADS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST http://a:80?b HTTP/1.0\n",
    b"GET /a/../%41?b#c ",
    b"HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 103 X\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\n",
    b"a_b: c\r\n",
    b"X",
    b": ",
    b" ",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\r\n\r\n",
    b"CONNECT a:1 ",
    b"[::1]",
    b"//",
    b"/.",
];

#[test]
fn heads() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let limits =
        HeadLimits { initial: 24, large_count: 2, large_size: 40, max_fields: 3, ..HeadLimits::default() };
    let (mut whole, mut pieces) = (RequestHead::default(), RequestHead::default());
    let (mut answer, mut answer_pieces) = (ResponseHead::default(), ResponseHead::default());
    for _ in 0..100_000 {
        let text = dice.text(HEADS);
        whole.reset();
        pieces.reset();
        let result = whole.parse(&text, &limits);
        let in_pieces = fed(&mut dice, &text, |text| {
            Some(pieces.parse(text, &limits)).filter(|result| *result != Ok(Progress::Partial))
        });
        assert_eq!(in_pieces.unwrap_or(Ok(Progress::Partial)), result, "{}", text.escape_ascii());
        if result == Ok(Progress::Complete) {
            assert!(whole.fields.iter().eq(pieces.fields.iter()));
            assert_eq!((whole.path, whole.length), (pieces.path, pieces.length));
            let _ = request_framing(&whole, &text);
            let _ = request_persistence(&whole, &text);
            let _ = uri::request_host(&whole, &text);
            let mut path = Vec::new();
            if uri::normalize(whole.path.of(&text), MergeSlashes::Merge, &mut path).is_ok() {
                assert_eq!(path.first(), Some(&b'/'));
                assert!(!path.split(|byte| *byte == b'/').any(|segment| segment == b".."));
            }
        }
        answer.reset();
        answer_pieces.reset();
        let result = answer.parse(&text, 80, 3);
        let in_pieces = fed(&mut dice, &text, |text| {
            Some(answer_pieces.parse(text, 80, 3)).filter(|result| *result != Ok(Progress::Partial))
        });
        assert_eq!(in_pieces.unwrap_or(Ok(Progress::Partial)), result, "{}", text.escape_ascii());
        if result == Ok(Progress::Complete) {
            assert!(answer.fields.iter().eq(answer_pieces.fields.iter()));
            let _ = response_framing(&answer, &text, Method::Get);
        }
    }
}

const CHUNKS: &[&[u8]] = &[
    b"3\r\nabc\r\n",
    b"0\r\n",
    b"\r\n",
    b"0\r\n\r\n",
    b"A: b\r\n",
    b";x=y",
    b"f",
    b"00",
    b"\n",
    b"ffffffffffffffff",
    b"a\r\n0123456789\r\n",
];

fn decode(decoder: &mut ChunkedDecoder, body: &mut Vec<u8>, input: &[u8]) -> Option<Result<usize, String>> {
    let mut at = 0;
    loop {
        match decoder.decode(&input[at..]) {
            Ok(ChunkStep::Data(data)) => {
                body.extend_from_slice(&input[at..][data.clone()]);
                at += data.end;
            }
            Ok(ChunkStep::NeedMore) => return None,
            Ok(ChunkStep::Done(used)) => return Some(Ok(at + used)),
            Err(error) => return Some(Err(error.to_string())),
        }
    }
}

#[test]
fn chunks() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..100_000 {
        let text = dice.text(CHUNKS);
        let trailers = if round % 2 == 0 { Trailers::Keep } else { Trailers::Discard };
        let mut whole = ChunkedDecoder::new(trailers, ChunkLimits { line: 20, trailers: 20 });
        let mut pieces = whole.clone();
        let (mut body, mut body_pieces) = (Vec::new(), Vec::new());
        let result = decode(&mut whole, &mut body, &text);
        let mut seen = 0;
        let in_pieces = fed(&mut dice, &text, |text| {
            let result = decode(&mut pieces, &mut body_pieces, &text[seen..]);
            let before = std::mem::replace(&mut seen, text.len());
            result.map(|result| result.map(|used| before + used))
        });
        assert_eq!(in_pieces, result, "{}", text.escape_ascii());
        assert_eq!(body, body_pieces);
        assert!(whole.trailers().0.iter().eq(pieces.trailers().0.iter()));
    }
}

const WORDS: &[&[u8]] = &[
    b"bytes=",
    b"0-",
    b"-5",
    b"1-2",
    b",",
    b"9999999999999999999",
    b" ",
    b"Sun, ",
    b"06 Nov 1994 ",
    b"06-Nov-94 ",
    b"08:49:37",
    b" GMT",
    b"Sun Nov  6 ",
    b"PROXY TCP4 ",
    b"1.2.3.4 ",
    b"5 ",
    b"6\r\n",
    b"UNKNOWN",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
    b"\x21\x21\0\x05",
    b"/../",
    b"%2e",
    b"%",
    b"/",
    b"?",
    b"#",
    b"a.b",
    b"[::1]",
    b":80",
    b"A",
    b"\0",
];

#[test]
fn words() {
    let mut dice = Dice(0xd1b5_4a32_d192_ed03);
    for _ in 0..200_000 {
        let text = dice.text(WORDS);
        let mut out = Vec::new();
        if let range::Ranges::Parts(parts) = range::parse(&text, 100, None) {
            assert!(parts.iter().all(|(start, end)| start < end && *end <= 100));
        }
        let _ = date::parse(&text);
        if let Ok(Some(header)) = haproxy::parse(&text) {
            assert!(header.length <= text.len());
            let _ = header.tlv("ssl_cn");
        }
        let _ = uri::validate_host(&text);
        let _ = uri::parse_target(&text);
        let _ = uri::normalize(&text, MergeSlashes::Keep, &mut out);
        out.clear();
        if uri::parse_unsafe(&text, &mut out).is_ok() {
            assert!(!out.split(|byte| *byte == b'/').any(|segment| segment == b".."));
        }
        for mode in [Unescape::All, Unescape::Uri, Unescape::Redirect] {
            assert!(uri::unescape(&text, mode, &mut out) <= text.len());
        }
        let _ = uri::extension(&text);
    }
}

const RECORDS: &[&[u8]] = &[
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
        let piece = &text[from..from + next_piece(text.len() - from)];
        from += piece.len();
        let mut at = 0;
        loop {
            let (used, event) = match records.next(&piece[at..]) {
                Ok(next) => next,
                Err(error) => return (out, err, format!("{ends}{error}")),
            };
            match event {
                fastcgi::Event::Stdout(range) => out.extend_from_slice(&piece[at..][range]),
                fastcgi::Event::Stderr(range) => err.extend_from_slice(&piece[at..][range]),
                fastcgi::Event::StdoutEnd => ends.push('o'),
                fastcgi::Event::RequestEnd => ends.push('r'),
                fastcgi::Event::Finished => ends.push('f'),
                fastcgi::Event::NeedMore => break,
            }
            at += used;
            assert!(at <= piece.len());
        }
    }
    (out, err, ends)
}

#[test]
fn fastcgi_records() {
    let mut dice = Dice(0x0123_4567_89ab_cdef);
    for _ in 0..100_000 {
        let text = dice.text(RECORDS);
        let whole = gathered(&text, |left| left);
        let pieces = gathered(&text, |left| dice.roll(left) + 1);
        assert_eq!(whole, pieces, "{}", text.escape_ascii());
    }
}

const CGI: &[&[u8]] = &[
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

const CACHED: &[&[u8]] = &[
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

#[test]
fn cgi_heads_and_memcached_answers() {
    let mut dice = Dice(0xfeed_beef_1234_5678);
    let (mut whole, mut pieces) = (ResponseHead::default(), ResponseHead::default());
    for _ in 0..100_000 {
        let text = dice.text(CGI);
        whole.reset();
        pieces.reset();
        let result = cgi::parse(&mut whole, &text, 80, 3);
        let in_pieces = fed(&mut dice, &text, |text| {
            Some(cgi::parse(&mut pieces, text, 80, 3)).filter(|result| *result != Ok(Progress::Partial))
        });
        assert_eq!(in_pieces.unwrap_or(Ok(Progress::Partial)), result, "{}", text.escape_ascii());
        if result == Ok(Progress::Complete) {
            let _ = cgi::set_status(&mut whole, &text);
            assert!(whole.length <= text.len());
        }
        let text = dice.text(CACHED);
        for flags in [memcached::Flags::Ignored, memcached::Flags::Wanted] {
            let result = memcached::parse(&text, b"k", flags);
            let in_pieces = fed(&mut dice, &text, |text| {
                Some(memcached::parse(text, b"k", flags))
                    .filter(|result| *result != Ok(memcached::Line::Partial))
            });
            assert_eq!(in_pieces.unwrap_or(Ok(memcached::Line::Partial)), result);
            let Ok(memcached::Line::Value { length, used, .. }) = result else { continue };
            let mut value = memcached::Value::new(length);
            let (memcached::Step::Data(count)
            | memcached::Step::End(count)
            | memcached::Step::Invalid(count)) = value.next(&text[used..]);
            assert!(used + count <= text.len() && count as u64 <= length);
        }
    }
}

const FRAMES: &[&[u8]] = &[
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

/// All that a connection says until it ends, with bodies as one text.
fn hear(dice: &mut Dice, input: &[u8]) -> (Vec<String>, Vec<u8>, Option<Violation>) {
    let mut receiver = Receiver::new(Role::Server, 100, 4096);
    let (mut decoder, mut said, mut bodies) = (Decoder::default(), Vec::new(), Vec::new());
    let (mut at, mut end) = (0, 0);
    while end < input.len() {
        end += 1 + dice.roll(input.len() - end);
        loop {
            let step = match receiver.next(&input[at..end]) {
                Ok(step) => step,
                Err(violation) => return (said, bodies, Some(violation)),
            };
            at += step.used;
            match step.event {
                None if step.used == 0 => break,
                None => {}
                Some(Event::Headers(frame, mut block)) => {
                    let mut limits = BlockLimits { field: 1000, total: 4096 };
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

#[test]
fn frames_of_http2() {
    let mut dice = Dice(0x5eed_0000_0002);
    for _ in 0..20_000 {
        let text = dice.text(FRAMES);
        let whole = hear(&mut Dice(u64::MAX), &text);
        let pieces = hear(&mut dice, &text);
        // An error may show earlier in a piece of a frame than in all of it, but never another one.
        assert_eq!((&whole.0, whole.2), (&pieces.0, pieces.2), "{}", text.escape_ascii());
        assert_eq!(whole.1, pieces.1, "{}", text.escape_ascii());
    }
}
