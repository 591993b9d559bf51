//! `ngx_stream_return_module`: a text for the client, and the end.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::conf::location::Content;
use http::module::{Module, Slot};
use http::phases::{LocalFuture, Serve};
use http::request::Request;
use http::rows::{Row, row};
use http::variables::Template;
use os::errlog::Level;

/// `ngx_stream_return_module`.
pub struct ReturnText;

static SLOT: Slot = Slot::new();

/// How long the client may take nothing, milliseconds.
const TIMEOUT_MS: u64 = 5000;

static ROWS: [Row<()>; 1] =
    [row("return", Contexts::STREAM_SERVER, Arity::ONE, "", "Sends a text and closes.", return_text)];

impl Module for ReturnText {
    const NAME: &'static str = "ngx_stream_return_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }
}

fn return_text((): &mut (), cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let text = Template::compile(cx, d.arg(0)?)?;
    cx.block.content = Some(Content::Session(Arc::new(Returns(text))));
    Ok(())
}

struct Returns(Template);

impl Serve for Returns {
    fn serve<'r>(&'r self, r: &'r mut Request) -> LocalFuture<'r, u16> {
        Box::pin(async move {
            let text = self.0.value(r);
            if let Some(mailbox) = r.lasting.get::<std::rc::Rc<crate::udp::Mailbox>>() {
                if !text.is_empty() && mailbox.send(&text).is_ok() {
                    r.output.sent += text.len() as u64;
                }
                return 200;
            }
            let (mut rest, conn) = (&text[..], std::rc::Rc::clone(&r.conn));
            while !rest.is_empty() {
                conn.deadline.set_after(TIMEOUT_MS);
                let sent = std::future::poll_fn(|cx| match conn.stream.poll_send(cx, rest) {
                    std::task::Poll::Pending => conn.deadline.poll_over(cx).map(|()| None),
                    sent => sent.map(Some),
                });
                match sent.await {
                    None => {
                        r.log(
                            Level::Info,
                            format_args!(
                                "connection timed out (110: Connection timed out) while returning text"
                            ),
                        );
                        return 200;
                    }
                    Some(Err(_)) => return 500,
                    Some(Ok(count)) => {
                        r.output.sent += count as u64;
                        rest = rest.get(count..).unwrap_or_default();
                    }
                }
            }
            200
        })
    }
}
