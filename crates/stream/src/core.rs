//! `ngx_stream_core_module`, as far as it is not that of `http` too: how long a client is waited for before its session
//! begins.

use conf::Contexts;
use http::module::{Module, Settings, Slot};
use http::rows::{Row, size, time};

/// `ngx_stream_core_module`.
pub struct Core;

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::STREAM_ALL;

#[rustfmt::skip]
static ROWS: [Row<CoreSettings>; 3] = [
    time("proxy_protocol_timeout", ALL, "30s", "Time for the PROXY protocol header.", |s, v| s.proxy_protocol_timeout = v),
    time("preread_timeout", ALL, "30s", "Time for what is looked at before a session begins.", |s, v| s.preread_timeout = v),
    size("preread_buffer_size", ALL, "16k", "Most bytes of that.", |s, v| s.preread_buffer_size = v),
];

/// Settings of the module in one block; times are milliseconds.
#[derive(Clone, Default)]
pub struct CoreSettings {
    /// `proxy_protocol_timeout`
    pub proxy_protocol_timeout: u64,
    /// `preread_timeout`
    pub preread_timeout: u64,
    /// `preread_buffer_size`
    pub preread_buffer_size: usize,
}

impl Settings for CoreSettings {}

impl Module for Core {
    const NAME: &'static str = "ngx_stream_core_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = CoreSettings;
    type Main = ();

    fn rows() -> &'static [Row<CoreSettings>] {
        &ROWS
    }
}
