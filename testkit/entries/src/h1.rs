//! HTTP/1: heads of both sides, and chunked bodies.
//!
//! A head is read in pieces and as a whole; both must come to the same.

use proto::h1::{
    ChunkLimits, ChunkStep, ChunkedDecoder, HeadLimits, Method, Progress, RequestHead, ResponseHead,
    Trailers, request_framing, request_persistence, response_framing,
};
use proto::uri::{self, MergeSlashes};

use crate::dice::fed;

pub(crate) const HEADS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST http://a:80?b HTTP/1.0\n",
    b"GET /a/../%41?b#c ",
    b"HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 103 X\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551616\r\n",
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

pub(crate) fn request_head(text: &[u8]) {
    let small =
        HeadLimits { initial: 24, large_count: 2, large_size: 40, max_fields: 3, ..HeadLimits::default() };
    for limits in [small, HeadLimits::default()] {
        let (mut whole, mut pieces) = (RequestHead::default(), RequestHead::default());
        let result = whole.parse(text, &limits);
        let in_pieces = fed(text, |text| {
            Some(pieces.parse(text, &limits)).filter(|result| *result != Ok(Progress::Partial))
        });
        assert_eq!(in_pieces.unwrap_or(Ok(Progress::Partial)), result);
        if result != Ok(Progress::Complete) {
            continue;
        }
        assert!(whole.fields.iter().eq(pieces.fields.iter()));
        assert_eq!((whole.path, whole.length), (pieces.path, pieces.length));
        assert!(whole.length <= text.len());
        let _ = request_framing(&whole, text);
        let _ = request_persistence(&whole, text);
        let _ = uri::request_host(&whole, text);
        let mut path = Vec::new();
        if uri::normalize(whole.path.of(text), MergeSlashes::Merge, &mut path).is_ok() {
            assert_eq!(path.first(), Some(&b'/'));
            assert!(!path.split(|byte| *byte == b'/').any(|segment| segment == b".."));
        }
    }
}

pub(crate) fn response_head(text: &[u8]) {
    let (mut whole, mut pieces) = (ResponseHead::default(), ResponseHead::default());
    let result = whole.parse(text, 80, 3);
    let in_pieces =
        fed(text, |text| Some(pieces.parse(text, 80, 3)).filter(|result| *result != Ok(Progress::Partial)));
    assert_eq!(in_pieces.unwrap_or(Ok(Progress::Partial)), result);
    if result == Ok(Progress::Complete) {
        assert!(whole.fields.iter().eq(pieces.fields.iter()));
        for method in [Method::Get, Method::Head] {
            let _ = response_framing(&whole, text, method);
        }
    }
}

pub(crate) const CHUNKS: &[&[u8]] = &[
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
        let rest = input.get(at..).unwrap_or_default();
        match decoder.decode(rest) {
            Ok(ChunkStep::Data(data)) => {
                body.extend_from_slice(rest.get(data.clone()).expect("a range of the input"));
                at += data.end;
            }
            Ok(ChunkStep::NeedMore) => return None,
            Ok(ChunkStep::Done(used)) => return Some(Ok(at + used)),
            Err(error) => return Some(Err(error.to_string())),
        }
    }
}

pub(crate) fn chunked(text: &[u8]) {
    for trailers in [Trailers::Keep, Trailers::Discard] {
        let mut whole = ChunkedDecoder::new(trailers, ChunkLimits { line: 20, trailers: 20 });
        let mut pieces = whole.clone();
        let (mut body, mut body_pieces) = (Vec::new(), Vec::new());
        let result = decode(&mut whole, &mut body, text);
        let mut seen = 0;
        let in_pieces = fed(text, |text| {
            let result = decode(&mut pieces, &mut body_pieces, text.get(seen..).unwrap_or_default());
            let before = std::mem::replace(&mut seen, text.len());
            result.map(|result| result.map(|used| before + used))
        });
        assert_eq!(in_pieces, result);
        assert_eq!(body, body_pieces);
        assert!(whole.trailers().0.iter().eq(pieces.trailers().0.iter()));
    }
}
