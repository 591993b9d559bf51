//! `ngx_http_static_module`: answers with the file that the URI names.
//!
//! It is the last of the content handlers, so whatever it declines is nobody's.

use http::module::{Module, Registry, Slot};
use http::open_file;
use http::phases::{Answer, Answered, Outcome};
use http::request::Request;
use os::errlog::Level;
use proto::h1::{Known, Method};
use proto::uri::EscapeKind;

/// `ngx_http_static_module`.
pub struct Static;

static SLOT: Slot = Slot::new();

impl Module for Static {
    const NAME: &'static str = "ngx_http_static_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn register(registry: &mut Registry) {
        registry.content(&Self);
    }
}

impl Answer for Static {
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        Answered::Now(serve(r))
    }
}

fn serve(r: &mut Request) -> Outcome {
    if !matches!(r.method, Method::Get | Method::Head | Method::Post) {
        return Outcome::Status(405);
    }
    let (path, opened) = match open_file::open_uri(r) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    if opened.info.is_dir() {
        return redirect_to_directory(r);
    }
    let Some(file) = opened.file.filter(|_| opened.info.is_file()) else {
        let shown = String::from_utf8_lossy(&path.full);
        r.log(Level::Crit, format_args!("\"{shown}\" is not a regular file"));
        return Outcome::Status(404);
    };
    if r.method == Method::Post {
        return Outcome::Status(405);
    }
    open_file::announce(r, &opened.info, opened.info.size);
    Outcome::send(open_file::whole(file, opened.info.size))
}

/// The directory's name with its slash.
fn redirect_to_directory(r: &mut Request) -> Outcome {
    let mut location = Vec::with_capacity(r.uri.len() + r.args.len() + 2);
    proto::uri::escape(&r.uri, EscapeKind::Uri, &mut location);
    location.push(b'/');
    if !r.args.is_empty() {
        location.push(b'?');
        location.extend_from_slice(&r.args);
    }
    r.response.headers.set_known(Known::Location, b"Location", &location);
    Outcome::Status(301)
}
