//! Answers of CGI programs, as uwsgi and SCGI servers send them: a head, then a body as it is.
//!
//! What FastCGI wraps in records has the same head, so that is concluded here too.

use net::Buf;
use os::errlog::Level;
use proto::cgi::{self, InvalidStatus};
use proto::h1::{FramingError, Known, Method, Progress, ResponseError};

use super::codec::{BodyLength, Closing, Codec, Decoded, Extra, HeadStep, Plain};
use super::exchange::{MAX_FIELDS, READING};
use super::http1::log_head_error;
use super::settings::next;
use super::{BodyUse, Plan, PlanBody, RelaySettings, SWITCHING_PROTOCOLS};
use crate::chunk::Queue;
use crate::request::Request;

/// A CGI answer without anything around it; its connection serves one request.
#[derive(Debug, Default)]
pub struct Cgi {
    body: Plain,
}

impl Codec for Cgi {
    fn head(&mut self, r: &mut Request, buf: &mut Buf, settings: &RelaySettings) -> Result<HeadStep, u32> {
        let parsed = cgi::parse(&mut r.upstream_head.head, buf, settings.buffer_size, MAX_FIELDS);
        Ok(match conclude_head(r, buf, parsed)? {
            Progress::Partial => HeadStep::Partial,
            Progress::Complete => HeadStep::Complete { text: 0, body: r.upstream_head.head.length },
        })
    }

    fn begin(&mut self, r: &Request, method: Method, _: &RelaySettings) -> Result<BodyLength, FramingError> {
        let length = body_length(r, method)?;
        self.body = Plain::of(length);
        Ok(length)
    }

    fn take_whole(&mut self, rest: &[u8]) -> Option<usize> {
        self.body.take_whole(rest)
    }

    fn decode(&mut self, r: &mut Request, buf: Buf, start: usize, part: &mut Queue) -> Decoded {
        let (decoded, extra) = self.body.take(buf, start, part);
        if extra == Extra::Bytes && self.body != Plain::Nothing {
            log_too_much(r);
        }
        decoded
    }

    fn closing(&self) -> Closing {
        match self.body {
            Plain::UntilClose => Closing::Complete,
            Plain::Nothing | Plain::Length(_) => Closing::Premature,
        }
    }

    fn may_keep(&self, _: &Request) -> bool {
        false
    }

    fn may_keep_unread(&self, _: &Request, _: &[u8]) -> bool {
        false
    }
}

/// Concludes what parsing the text of a head came to: its status, or the sentence for the error log.
///
/// # Errors
/// [`next::INVALID_HEADER`].
pub fn conclude_head(
    r: &mut Request,
    text: &[u8],
    parsed: Result<Progress, ResponseError>,
) -> Result<Progress, u32> {
    match parsed {
        Ok(Progress::Partial) => Ok(Progress::Partial),
        Ok(Progress::Complete) => match cgi::set_status(&mut r.upstream_head.head, text) {
            Ok(()) => Ok(Progress::Complete),
            Err(InvalidStatus(value)) => {
                let shown = String::from_utf8_lossy(value.of(text)).into_owned();
                r.log(Level::Error, format_args!("upstream sent invalid status \"{shown}\" while {READING}"));
                Err(next::INVALID_HEADER)
            }
        },
        Err(error) => {
            log_head_error(r, text, error);
            Err(next::INVALID_HEADER)
        }
    }
}

/// The length that a CGI head says; a `Transfer-Encoding` means nothing there.
///
/// # Errors
/// A length that is said twice or cannot be read.
pub fn body_length(r: &Request, method: Method) -> Result<BodyLength, FramingError> {
    proto::h1::response_framing(&r.upstream_head.head, &r.upstream_head.text, method).map(BodyLength::from)
}

/// Says that bytes lie behind the length that was told.
pub fn log_too_much(r: &Request) {
    r.log(
        Level::Warn,
        format_args!(
            "upstream sent more data than specified in \"Content-Length\" header while reading upstream"
        ),
    );
}

/// What uWSGI and SCGI servers want of the client's body: its length in front of it, so one that comes in chunks
/// is read first.
#[must_use]
pub fn body_use(r: &Request, settings: &RelaySettings) -> BodyUse {
    if settings.pass_request_body && !r.reader.is_chunked() { BodyUse::Stream } else { BodyUse::Whole }
}

/// The request with this head: the client's body follows with nothing around it, and the application may open a tunnel
/// where the client asked for one.
#[must_use]
pub fn plan(r: &Request, settings: &RelaySettings, head: Buf) -> Plan {
    let tunnel = r.header(Known::Upgrade).map(|_| SWITCHING_PROTOCOLS);
    Plan { head, body: PlanBody::of(r, settings), tunnel, ..Plan::default() }
}
