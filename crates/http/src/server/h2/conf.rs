//! `ngx_http_v2_module`: the `http2_*` directives and `$http2`.
//!
//! Those that are obsolete are accepted with nginx's warning, which names the directive that took over.

use conf::{Arity, Contexts, Directive, Error, Level};

use crate::conf::compile::Cx;
use crate::module::{Module, Registry, Settings, Slot};
use crate::rows::{Row, flag, number, row, value, without_effect};
use crate::variables::Variable;

/// `ngx_http_v2_module`.
pub struct Http2;

static SLOT: Slot = Slot::new();

const TOP: Contexts = Contexts::HTTP_SERVER;
const ALL: Contexts = Contexts::HTTP_ALL;

/// Settings of `ngx_http_v2_module`.
#[derive(Clone, Debug, Default)]
pub struct Http2Settings {
    /// `http2`: the server speaks it.
    pub enable: bool,
    /// `http2_recv_buffer_size`: most bytes that are read at once.
    pub recv_buffer_size: usize,
    /// `http2_max_concurrent_streams`.
    pub max_concurrent_streams: u32,
    /// `http2_body_preread_size`: window of a stream whose body nobody reads yet.
    pub body_preread_size: u32,
    /// `http2_chunk_size`: most bytes of a DATA frame.
    pub chunk_size: usize,
}

impl Settings for Http2Settings {}

static ROWS: [Row<Http2Settings>; 15] = [
    flag("http2", TOP, "off", "Speaks HTTP/2.", |s, v| s.enable = v),
    value(
        "http2_recv_buffer_size",
        Contexts::HTTP,
        Arity::ONE,
        "256k",
        "Most bytes read at once.",
        |s, d| {
            s.recv_buffer_size = usize::try_from(d.size()?).unwrap_or(usize::MAX);
            if s.recv_buffer_size <= 16 { Err(Error::on(d, "value is too small")) } else { Ok(()) }
        },
    ),
    number("http2_max_concurrent_streams", TOP, "128", "Streams that a client may have open.", |s, v| {
        s.max_concurrent_streams = u32::try_from(v).unwrap_or(u32::MAX);
    }),
    value("http2_body_preread_size", TOP, Arity::ONE, "64k", "Bytes of a body before it is read.", |s, d| {
        let size = u32::try_from(d.size()?).ok().filter(|size| *size <= proto::h2::MAX_WINDOW);
        let sentence = || Error::at(&d.name, "the maximum body preread buffer size is 2147483647");
        size.map(|size| s.body_preread_size = size).ok_or_else(sentence)
    }),
    value("http2_chunk_size", ALL, Arity::ONE, "8k", "Most bytes of a DATA frame.", |s, d| {
        s.chunk_size = usize::try_from(d.size()?).unwrap_or(usize::MAX);
        let sentence = "the http2 chunk size cannot be zero";
        if s.chunk_size == 0 { Err(Error::at(&d.name, sentence)) } else { Ok(()) }
    }),
    without_effect("http2_pool_size", TOP, Arity::ONE, "memory does not come from pools of a fixed size"),
    without_effect("http2_streams_index_size", TOP, Arity::ONE, "streams are found without an index"),
    obsolete("http2_recv_timeout", TOP),
    obsolete("http2_idle_timeout", TOP),
    obsolete("http2_max_requests", TOP),
    obsolete("http2_max_field_size", TOP),
    obsolete("http2_max_header_size", TOP),
    obsolete("http2_max_concurrent_pushes", TOP),
    obsolete("http2_push", ALL).many(),
    obsolete("http2_push_preload", ALL),
];

static VARIABLES: [Variable; 1] = [Variable::new("http2", |r, out| {
    let Some(_) = r.stream() else { return false };
    out.extend_from_slice(if r.conn.is_tls() { b"h2" } else { b"h2c" });
    true
})];

const fn obsolete(name: &'static str, contexts: Contexts) -> Row<Http2Settings> {
    row(name, contexts, Arity::ONE, "", "Obsolete; another directive took over or push is gone.", warn)
}

/// What took the place of obsolete directives.
const SUCCESSORS: [(&str, &str); 5] = [
    ("http2_recv_timeout", "client_header_timeout"),
    ("http2_idle_timeout", "keepalive_timeout"),
    ("http2_max_requests", "keepalive_requests"),
    ("http2_max_field_size", "large_client_header_buffers"),
    ("http2_max_header_size", "large_client_header_buffers"),
];

fn warn(_: &mut Http2Settings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let name = d.name.as_str();
    let sentence = match SUCCESSORS.iter().find(|(old, _)| *old == name) {
        Some((_, new)) => {
            format!("the \"{name}\" directive is obsolete, use the \"{new}\" directive instead")
        }
        None => format!("the \"{name}\" directive is obsolete, ignored"),
    };
    cx.notices.push(Error::at(&d.name, sentence).with_level(Level::Warn));
    Ok(())
}

impl Module for Http2 {
    const NAME: &'static str = "ngx_http_v2_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = Http2Settings;
    type Main = ();

    fn rows() -> &'static [Row<Http2Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&VARIABLES);
    }
}
