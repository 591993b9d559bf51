//! `ngx_http_flv_module`: a Flash video from the byte that a player asks for.
//!
//! What is cut off at the front is made up for by a header, so that the rest is a video of its own.

use std::sync::Arc;

use conf::{Arity, Contexts};
use http::chunk::Chunk;
use http::conf::location::Content;
use http::module::{Module, Slot};
use http::open_file;
use http::phases::{Answer, Answered, Body, Outcome};
use http::request::Request;
use http::rows::{Row, row};
use http::variables::core::find_argument;
use proto::h1::Method;

/// `ngx_http_flv_module`.
pub struct Flv;

static SLOT: Slot = Slot::new();

static ROWS: [Row<()>; 1] = [row(
    "flv",
    Contexts::LOCATION,
    Arity::NOARGS,
    "",
    "Answers with Flash video, from `?start=` on.",
    |_, cx, _| {
        cx.block.content = Some(Content::Answer(Arc::new(Flv)));
        Ok(())
    },
)
.many()];

/// Signature, version, audio and video, length of the header, size of the tag before the first.
static HEADER: [u8; 13] = *b"FLV\x01\x05\0\0\0\x09\0\0\0\0";

impl Module for Flv {
    const NAME: &'static str = "ngx_http_flv_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }
}

impl Answer for Flv {
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        Answered::Now(serve(r))
    }
}

/// `ngx_http_flv_handler`.
fn serve(r: &mut Request) -> Outcome {
    if !matches!(r.method, Method::Get | Method::Head) {
        return Outcome::Status(405);
    }
    let (_, opened) = match open_file::open_uri(r) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let Some(file) = opened.file.filter(|_| opened.info.is_file()) else { return Outcome::Declined };
    let size = opened.info.size;
    let start = start(&r.args, size);
    let header = if start == 0 { 0 } else { HEADER.len() as u64 };
    open_file::announce(r, &opened.info, header + size - start);
    let rest = Chunk::File { file, offset: start, end: size };
    Outcome::send(match (start, size) {
        (_, 0) => Body::Empty,
        (0, _) => Body::One(rest),
        _ => Body::Many(vec![Chunk::Static(&HEADER), rest]),
    })
}

/// Where the video is to begin; what is no place within it is its beginning.
fn start(args: &[u8], size: u64) -> u64 {
    let start = find_argument(args, b"start").and_then(conf::parse_number);
    start.filter(|start| *start < size).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_video_begins_within_itself() {
        let check =
            |args: &str, expected: u64| assert_eq!(super::start(args.as_bytes(), 100), expected, "{args}");
        check("", 0);
        check("start=7", 7);
        check("a=b&start=99", 99);
        check("start=100", 0);
        check("start=-1", 0);
        check("start=", 0);
        check("start=99999999999999999999", 0);
    }
}
