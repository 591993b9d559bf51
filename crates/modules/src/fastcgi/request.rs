//! The request towards a FastCGI application: the beginning, the parameters, a body that lies in memory.
//!
//! Bodies in files and those that still come in are put into records by the codec, piece by piece.

use http::body::RequestBody;
use http::phases::Outcome;
use http::relay::{Framing, Plan, PlanBody};
use http::request::Request;
use net::Buf;
use os::errlog::Level;
use proto::fastcgi;

use super::{Fastcgi, FastcgiSettings, split};

/// Bytes that the parameters of most requests fit in, besides the client's fields.
const PARAMS_SIZE: usize = 4096;

/// Writes the request (`ngx_http_fastcgi_create_request`).
pub(super) fn create(settings: &FastcgiSettings, r: &mut Request, plan: &mut Plan) -> Result<(), Outcome> {
    if settings.split.is_some() {
        split::remember(r);
    }
    let in_memory = match r.body.memory() {
        Some(body) if settings.relay.pass_request_body => body,
        _ => b"",
    };
    let mut head = Buf::with_capacity(PARAMS_SIZE + r.head.len() + in_memory.len());
    let out = head.vec();
    let start = fastcgi::begin(settings.after, out);
    settings.params.write::<Fastcgi>(r, &settings.relay, out);
    if let Err(error) = fastcgi::end_params(start, out) {
        r.log(Level::Alert, format_args!("{error}"));
        return Err(Outcome::Status(500));
    }
    plan.body = match &r.body {
        RequestBody::File { .. } if settings.relay.pass_request_body => PlanBody::Whole,
        RequestBody::Streaming => PlanBody::Stream,
        _ => {
            if !in_memory.is_empty() {
                fastcgi::push_stdin(in_memory, out);
            }
            fastcgi::push_stdin(b"", out);
            PlanBody::None
        }
    };
    plan.framing = Framing::Pieces;
    plan.head = head;
    Ok(())
}
