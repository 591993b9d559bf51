//! `ngx_http_empty_gif_module`: a transparent GIF of one pixel.
//!
//! The picture is 43 bytes, the fewest that a transparent one can have.

use std::sync::Arc;

use conf::{Arity, Contexts};
use http::chunk::Chunk;
use http::conf::location::Content;
use http::module::{Module, Slot};
use http::phases::{Answer, Answered, Body, Outcome};
use http::request::Request;
use http::rows::{Row, row};
use proto::h1::Method;

/// `ngx_http_empty_gif_module`.
pub struct EmptyGif;

static SLOT: Slot = Slot::new();

static ROWS: [Row<()>; 1] =
    [row("empty_gif", Contexts::LOCATION, Arity::NOARGS, "", "Answers with an empty GIF.", |_, cx, _| {
        cx.block.content = Some(Content::Answer(Arc::new(EmptyGif)));
        Ok(())
    })
    .many()];

/// What nginx says the picture was last modified at.
const MODIFIED: i64 = 23_349_600;

/// The smallest transparent picture: header, two colours, graphic control, one pixel, trailer.
static GIF: [u8; 43] = *b"GIF89a\x01\0\x01\0\x80\x01\0\
    \0\0\0\xff\xff\xff\
    \x21\xf9\x04\x01\0\0\x01\0\
    \x2c\0\0\0\0\x01\0\x01\0\0\
    \x02\x02\x4c\x01\0\
    \x3b";

impl Module for EmptyGif {
    const NAME: &'static str = "ngx_http_empty_gif_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }
}

impl Answer for EmptyGif {
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        if !matches!(r.method, Method::Get | Method::Head) {
            return Answered::Now(Outcome::Status(405));
        }
        r.response.status = 200;
        r.response.content_type = b"image/gif".to_vec();
        r.response.content_length = Some(GIF.len() as u64);
        r.response.set_last_modified(Some(MODIFIED));
        Answered::Now(Outcome::send(Body::One(Chunk::Static(&GIF))))
    }
}
