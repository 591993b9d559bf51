//! `ngx_http_stub_status_module`: how many connections there are and what they do, as text and as variables.
//!
//! The figures are sums over all worker threads.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::chunk::Chunk;
use http::conf::compile::Cx;
use http::conf::location::Content;
use http::module::{Module, Registry, Slot};
use http::output::push_decimal;
use http::phases::{Answer, Answered, Body, Outcome};
use http::request::Request;
use http::rows::{Row, row};
use http::server::stats::{Totals, totals};
use http::variables::Variable;
use proto::h1::Method;

/// `ngx_http_stub_status_module`.
pub struct StubStatus;

static SLOT: Slot = Slot::new();

static ROWS: [Row<()>; 1] = [row(
    "stub_status",
    Contexts::SERVER.or(Contexts::LOCATION),
    Arity::NOARGS.or(Arity::ONE),
    "",
    "Shows connections and requests.",
    set,
)
.many()];

static VARIABLES: [Variable; 4] = [
    Variable::new("connections_active", |_, out| push(totals().active, out)),
    Variable::new("connections_reading", |_, out| push(totals().reading, out)),
    Variable::new("connections_writing", |_, out| push(totals().writing, out)),
    Variable::new("connections_waiting", |_, out| push(totals().waiting, out)),
];

fn push(gauge: i64, out: &mut Vec<u8>) -> bool {
    push_decimal(u64::try_from(gauge).unwrap_or(0), out);
    true
}

fn set(_: &mut (), cx: &mut Cx<'_>, _: &Directive) -> Result<(), Error> {
    cx.block.content = Some(Content::Answer(Arc::new(StubStatus)));
    Ok(())
}

impl Module for StubStatus {
    const NAME: &'static str = "ngx_http_stub_status_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&VARIABLES);
    }
}

impl Answer for StubStatus {
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        if !matches!(r.method, Method::Get | Method::Head) {
            return Answered::Now(Outcome::Status(405));
        }
        r.discard_body = true;
        let text = page(&totals());
        r.response.status = 200;
        r.response.content_type.clear();
        r.response.content_type.extend_from_slice(b"text/plain");
        r.response.content_length = Some(text.len() as u64);
        Answered::Now(Outcome::send(Body::One(Chunk::copied(text.as_bytes()))))
    }
}

fn page(totals: &Totals) -> String {
    let Totals { accepted, handled, requests, active, reading, writing, waiting } = totals;
    format!(
        "Active connections: {active} \nserver accepts handled requests\n {accepted} {handled} {requests} \n\
         Reading: {reading} Writing: {writing} Waiting: {waiting} \n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_nginx_own() {
        let totals =
            Totals { accepted: 5, handled: 4, requests: 9, active: 3, reading: 0, writing: 1, waiting: 2 };
        let expected = "Active connections: 3 \nserver accepts handled requests\n 5 4 9 \n\
                        Reading: 0 Writing: 1 Waiting: 2 \n";
        assert_eq!(page(&totals), expected);
    }
}
