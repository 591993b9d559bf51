//! `ngx_http_memcached_module`: answers read from memcached under `$memcached_key`.
//!
//! The value is the body; its type follows from the URI, and a flag of the value may say that it is gzipped.

use conf::{Arity, Contexts, Directive, Error};
use http::chunk::{Chunk, Queue};
use http::conf::UpstreamId;
use http::conf::compile::Cx;
use http::module::{Module, Settings, Slot};
use http::phases::Outcome;
use http::relay::settings::next;
use http::relay::{
    BodyLength, BodyUse, Closing, Codec, Decoded, HeadStep, Pass, Plan, Protocol, RelaySettings, Wire,
};
use http::request::Request;
use http::rows::{Row, number, row};
use http::variables::VariableId;
use net::Buf;
use os::errlog::Level;
use proto::h1::{FramingError, Known, Method};
use proto::memcached::{self, Flags, Line, Step, Value};

/// `ngx_http_memcached_module`.
pub struct Memcached;

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

static CONNECTION_ROWS: &[Row<MemcachedSettings>] =
    &http::relay_connection_rows!("memcached", MemcachedSettings);
static SHARED_ROWS: [&[Row<MemcachedSettings>]; 1] = [CONNECTION_ROWS];

#[rustfmt::skip]
static ROWS: [Row<MemcachedSettings>; 3] = [
    row("memcached_pass", Contexts::LOCATION.or(Contexts::IF_LOCATION), Arity::ONE, "", "Where values are read from.", pass),
    row("memcached_next_upstream", ALL, Arity::MORE1, "error timeout", "When the next server is tried.", next_upstream).many(),
    number("memcached_gzip_flag", ALL, "0", "The flag of values that are gzipped.", |s, v| s.gzip_flag = v),
];

/// Conditions of `memcached_next_upstream`.
const CONDITIONS: [(&str, u32); 6] = [
    ("error", next::ERROR),
    ("timeout", next::TIMEOUT),
    ("denied", next::DENIED),
    ("invalid_response", next::INVALID_HEADER),
    ("not_found", next::HTTP_404),
    ("off", next::OFF),
];

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct MemcachedSettings {
    /// What all upstream protocols share.
    pub relay: RelaySettings,
    pass: Option<Pass>,
    key: Option<VariableId>,
    gzip_flag: u64,
}

impl Settings for MemcachedSettings {
    fn enter(&mut self) {
        self.relay.enter();
    }

    fn finish(&mut self, _: &mut Cx<'_>) -> Result<(), Error> {
        // What nginx lets nobody choose: pages of this server for what is not there, ranges of what is.
        self.relay.intercept_errors = true;
        self.relay.intercept_404 = true;
        self.relay.force_ranges = true;
        Ok(())
    }
}

impl Module for Memcached {
    const NAME: &'static str = "ngx_http_memcached_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = MemcachedSettings;
    type Main = ();

    fn rows() -> &'static [Row<MemcachedSettings>] {
        &ROWS
    }

    fn shared_rows() -> &'static [&'static [Row<MemcachedSettings>]] {
        &SHARED_ROWS
    }
}

/// The key as it was asked for, which the answer repeats.
struct Key(Box<[u8]>);

impl Protocol for MemcachedSettings {
    fn settings(&self) -> &RelaySettings {
        &self.relay
    }

    fn body_use(&self, r: &mut Request) -> Result<BodyUse, Outcome> {
        if !matches!(r.method, Method::Get | Method::Head) {
            return Err(Outcome::Status(405));
        }
        r.set_content_type();
        Ok(BodyUse::Discard)
    }

    fn wire(&self, r: &Request) -> Wire {
        let key = r.contexts.get::<Key>().map(|key| key.0.clone()).unwrap_or_default();
        let gzip_flag = self.gzip_flag;
        Wire::Plain(Box::new(MemcachedCodec { key, gzip_flag, length: None, value: Value::default() }))
    }

    fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    /// A check would have no key to ask for.
    fn upstream(&self) -> Option<UpstreamId> {
        None
    }

    fn create(&self, r: &mut Request, plan: &mut Plan) -> Result<(), Outcome> {
        let key = self.key.and_then(|id| r.variable(id)).unwrap_or_default();
        if key.is_empty() {
            r.log(Level::Error, format_args!("the \"$memcached_key\" variable is not set"));
            return Err(Outcome::Status(500));
        }
        let mut head = Buf::with_capacity(key.len() + 16);
        let at = memcached::write_get(&key, &mut head);
        let key = head.get(at).unwrap_or_default().into();
        r.contexts.put(Key(key));
        plan.head = head;
        Ok(())
    }

    fn scheme(&self, _: &Request) -> &'static str {
        "memcached://"
    }
}

/// memcached at work on one connection.
struct MemcachedCodec {
    key: Box<[u8]>,
    gzip_flag: u64,
    /// Bytes of the value; none where the key is not there.
    length: Option<u64>,
    value: Value,
}

impl Codec for MemcachedCodec {
    fn head(&mut self, r: &mut Request, buf: &mut Buf, settings: &RelaySettings) -> Result<HeadStep, u32> {
        let wanted = if self.gzip_flag == 0 { Flags::Ignored } else { Flags::Wanted };
        let key = String::from_utf8_lossy(&self.key);
        let head = &mut r.upstream_head.head;
        match memcached::parse(buf, &self.key, wanted) {
            Ok(Line::Partial) if buf.len() >= settings.buffer_size => {
                r.log(
                    Level::Error,
                    format_args!("upstream sent too big header while {}", http::relay::READING),
                );
                Err(next::INVALID_HEADER)
            }
            Ok(Line::Partial) => Ok(HeadStep::Partial),
            Ok(Line::Value { flags, length, used }) => {
                head.status = 200;
                self.length = Some(length);
                if flags & self.gzip_flag != 0 {
                    r.response.headers.push_known(Known::ContentEncoding, b"Content-Encoding", b"gzip");
                }
                Ok(HeadStep::Complete { text: 0, body: used })
            }
            Ok(Line::Miss { used }) => {
                head.status = 404;
                r.log(
                    Level::Info,
                    format_args!("key: \"{key}\" was not found by memcached while {}", http::relay::READING),
                );
                Ok(HeadStep::Complete { text: 0, body: used })
            }
            Err(error) => {
                let line = String::from_utf8_lossy(memcached::first_line(buf));
                let doing = http::relay::READING;
                match error {
                    memcached::LineError::Response => {
                        r.log(Level::Error, format_args!("{error}: \"{line}\" while {doing}"));
                    }
                    _ => r.log(
                        Level::Error,
                        format_args!("{error} \"{line}\" for key \"{key}\" while {doing}"),
                    ),
                }
                Err(next::INVALID_HEADER)
            }
        }
    }

    fn begin(&mut self, _: &Request, _: Method, _: &RelaySettings) -> Result<BodyLength, FramingError> {
        let length = self.length.unwrap_or(0);
        self.value = Value::new(length);
        Ok(BodyLength::Known(length))
    }

    fn decode(&mut self, r: &mut Request, mut buf: Buf, start: usize, part: &mut Queue) -> Decoded {
        let step = self.value.next(buf.get(start..).unwrap_or_default());
        let (Step::Data(count) | Step::End(count) | Step::Invalid(count)) = step;
        buf.truncate(start.saturating_add(count));
        part.push(Chunk::Buf { buf, start });
        match step {
            Step::Data(_) => Decoded::More,
            Step::End(_) => Decoded::End,
            Step::Invalid(_) => {
                r.log(Level::Error, format_args!("memcached sent invalid trailer while reading upstream"));
                self.length = None;
                Decoded::End
            }
        }
    }

    fn closing(&self) -> Closing {
        Closing::Premature
    }

    fn may_keep(&self, _: &Request) -> bool {
        self.length.is_some()
    }

    fn may_keep_unread(&self, _: &Request, rest: &[u8]) -> bool {
        self.length.is_none() && rest.is_empty()
    }
}

fn pass(s: &mut MemcachedSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    s.pass = Some(Pass::compile(cx, word, &word.bytes, &[])?);
    s.key = Some(cx.variable(b"memcached_key", word)?);
    cx.block.relay_by::<Memcached>();
    Ok(())
}

fn next_upstream(s: &mut MemcachedSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.relay.next_upstream = cx.bits(d, &CONDITIONS)?;
    Ok(())
}
