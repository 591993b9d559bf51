//! Settings that every upstream protocol shares.
//!
//! A protocol's own settings hold a [`RelaySettings`] in a field named `relay`; `relay_rows!` makes their rows.

use std::sync::Arc;

use conf::{Directive, Error};
use proto::h1::NameSet;

use crate::conf::Lines;
use crate::conf::compile::Cx;
use crate::conf::core::TempPath;
use crate::variables::Template;

/// Conditions of `*_next_upstream`, as bits.
pub mod next {
    /// The connection failed.
    pub const ERROR: u32 = 1 << 1;
    /// A timeout passed.
    pub const TIMEOUT: u32 = 1 << 2;
    /// The answer's head was empty or invalid.
    pub const INVALID_HEADER: u32 = 1 << 3;
    /// Status 500.
    pub const HTTP_500: u32 = 1 << 4;
    /// Status 502.
    pub const HTTP_502: u32 = 1 << 5;
    /// Status 503.
    pub const HTTP_503: u32 = 1 << 6;
    /// Status 504.
    pub const HTTP_504: u32 = 1 << 7;
    /// Status 403.
    pub const HTTP_403: u32 = 1 << 8;
    /// Status 404.
    pub const HTTP_404: u32 = 1 << 9;
    /// Status 429.
    pub const HTTP_429: u32 = 1 << 10;
    /// Also for requests that must not be repeated.
    pub const NON_IDEMPOTENT: u32 = 1 << 14;
    /// The upstream's address was denied.
    pub const DENIED: u32 = 1 << 15;
    /// Not for the configuration: the peer says that it has not looked at the request.
    pub const UNPROCESSED: u32 = 1 << 30;
    /// Never.
    pub const OFF: u32 = 1 << 31;

    /// The condition that an answer of this status is; zero: none.
    #[must_use]
    pub fn of_status(status: u16) -> u32 {
        match status {
            500 => HTTP_500,
            502 => HTTP_502,
            503 => HTTP_503,
            504 => HTTP_504,
            403 => HTTP_403,
            404 => HTTP_404,
            429 => HTTP_429,
            _ => 0,
        }
    }

    /// Names in the configuration.
    pub const NAMES: [(&str, u32); 13] = [
        ("error", ERROR),
        ("timeout", TIMEOUT),
        ("invalid_header", INVALID_HEADER),
        ("non_idempotent", NON_IDEMPOTENT),
        ("denied", DENIED),
        ("http_500", HTTP_500),
        ("http_502", HTTP_502),
        ("http_503", HTTP_503),
        ("http_504", HTTP_504),
        ("http_403", HTTP_403),
        ("http_404", HTTP_404),
        ("http_429", HTTP_429),
        ("off", OFF),
    ];
}

/// Fields of `*_ignore_headers`, as bits.
pub mod ignore {
    /// `X-Accel-Redirect`.
    pub const XA_REDIRECT: u32 = 1 << 1;
    /// `X-Accel-Expires`.
    pub const XA_EXPIRES: u32 = 1 << 2;
    /// `Expires`.
    pub const EXPIRES: u32 = 1 << 3;
    /// `Cache-Control`.
    pub const CACHE_CONTROL: u32 = 1 << 4;
    /// `Set-Cookie`.
    pub const SET_COOKIE: u32 = 1 << 5;
    /// `X-Accel-Limit-Rate`.
    pub const XA_LIMIT_RATE: u32 = 1 << 6;
    /// `X-Accel-Buffering`.
    pub const XA_BUFFERING: u32 = 1 << 7;
    /// `X-Accel-Charset`.
    pub const XA_CHARSET: u32 = 1 << 8;
    /// `Vary`.
    pub const VARY: u32 = 1 << 9;

    /// Names in the configuration.
    pub const NAMES: [(&str, u32); 9] = [
        ("X-Accel-Redirect", XA_REDIRECT),
        ("X-Accel-Expires", XA_EXPIRES),
        ("X-Accel-Limit-Rate", XA_LIMIT_RATE),
        ("X-Accel-Buffering", XA_BUFFERING),
        ("X-Accel-Charset", XA_CHARSET),
        ("Expires", EXPIRES),
        ("Cache-Control", CACHE_CONTROL),
        ("Set-Cookie", SET_COOKIE),
        ("Vary", VARY),
    ];
}

/// `*_bind`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// The kernel chooses.
    #[default]
    Off,
    /// This address.
    Address {
        /// The address, perhaps with variables.
        address: Template,
        /// The address need not be the machine's own.
        transparent: bool,
    },
}

/// Settings shared by all upstream protocols; field names are the directives' without their prefix.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own that is on or off")]
pub struct RelaySettings {
    /// `*_cache*` and `*_store*`.
    pub cache: Arc<super::cache::CacheSettings>,
    /// TLS, for those protocols that may be spoken over it.
    pub tls: Arc<super::tls::TlsSettings>,
    pub buffering: bool,
    pub request_buffering: bool,
    pub ignore_client_abort: bool,
    pub intercept_errors: bool,
    /// A 404 is answered by this side's own, whatever `error_page` says; no directive sets it.
    pub intercept_404: bool,
    pub force_ranges: bool,
    pub socket_keepalive: bool,
    pub pass_request_headers: bool,
    pub pass_request_body: bool,
    pub pass_trailers: bool,
    /// An answer that is passed on without buffering may be kept all the same; no directive sets it.
    pub keeps_unbuffered: bool,
    pub connect_timeout: u64,
    pub send_timeout: u64,
    pub read_timeout: u64,
    pub next_upstream: u32,
    pub next_upstream_tries: u32,
    pub next_upstream_timeout: u64,
    pub ignore_headers: u32,
    pub buffer_size: usize,
    pub buffers: (u64, usize),
    pub busy_buffers_size: Option<usize>,
    pub max_temp_file_size: Option<u64>,
    pub temp_file_write_size: Option<usize>,
    pub temp_path: TempPath,
    pub limit_rate: Option<Template>,
    pub bind: Bind,
    pub socket_rcvbuf: u32,
    pub socket_sndbuf: u32,
    pub hide_headers: Lines<Box<[u8]>>,
    pub pass_headers: Lines<Box<[u8]>>,
    /// Fields that are not passed on: the protocol's own and `hide_headers` without `pass_headers`; made by
    /// [`Self::finish`].
    pub hidden: Arc<NameSet>,
    /// `Server` is passed on, also that there is none: none of our own is added.
    pub omits_server: bool,
    /// The same for `Date`.
    pub omits_date: bool,
}

/// Fields of an answer that are for the relay and not for the client.
const CONTROLS: [&str; 5] =
    ["X-Accel-Expires", "X-Accel-Redirect", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"];

impl RelaySettings {
    /// For [`crate::module::Settings::enter`].
    pub fn enter(&mut self) {
        if self.tls.has_commands() {
            Arc::make_mut(&mut self.tls).enter();
        }
        if self.cache.has_own() {
            self.cache_mut().enter();
        }
        self.hide_headers.enter();
        self.pass_headers.enter();
    }

    /// For [`crate::module::Settings::finish`]: `own_hidden` are the fields that the protocol does not pass on, besides
    /// those that are for the relay.
    ///
    /// # Errors
    /// nginx's sentences for buffer sizes that do not go together.
    pub fn finish(&mut self, cx: &mut Cx<'_>, prefix: &str, own_hidden: &[&str]) -> Result<(), Error> {
        let mut hidden: NameSet = CONTROLS.iter().chain(own_hidden).map(|name| name.as_bytes()).collect();
        for name in self.hide_headers.iter() {
            hidden.insert(name);
        }
        for name in self.pass_headers.iter() {
            hidden.remove(name);
        }
        self.hidden = Arc::new(hidden);
        self.cache.finish(cx, prefix);
        if self.buffers.0 < 2 {
            return Err(cx.error_at_end(format!("there must be at least 2 \"{prefix}_buffers\"")));
        }
        let largest = self.buffer_size.max(self.buffers.1);
        let all = usize::try_from(self.buffers.0 - 1).unwrap_or(usize::MAX).saturating_mul(self.buffers.1);
        let busy = self.busy_buffers_size.unwrap_or(2 * largest);
        if busy < largest {
            return Err(cx.error_at_end(format!(
                "\"{prefix}_busy_buffers_size\" must be equal to or greater than the maximum of the value of \
                 \"{prefix}_buffer_size\" and one of the \"{prefix}_buffers\""
            )));
        }
        if busy > all {
            return Err(cx.error_at_end(format!(
                "\"{prefix}_busy_buffers_size\" must be less than the size of all \"{prefix}_buffers\" minus one buffer"
            )));
        }
        if self.temp_file_write_size.is_some_and(|size| size < largest) {
            return Err(cx.error_at_end(format!(
                "\"{prefix}_temp_file_write_size\" must be equal to or greater than the maximum of the value of \
                 \"{prefix}_buffer_size\" and one of the \"{prefix}_buffers\""
            )));
        }
        if self.max_temp_file_size.is_some_and(|size| size > 0 && size < largest as u64) {
            return Err(cx.error_at_end(format!(
                "\"{prefix}_max_temp_file_size\" must be equal to zero to disable temporary files usage or must be \
                 equal to or greater than the maximum of the value of \"{prefix}_buffer_size\" and one of the \
                 \"{prefix}_buffers\""
            )));
        }
        if !self.temp_path.path.as_os_str().is_empty() {
            cx.resources.directory(&self.temp_path.path).map_err(|error| {
                Error::bare(format!(
                    "mkdir() \"{}\" failed {}",
                    self.temp_path.path.display(),
                    os::errlog::Errno(&error)
                ))
            })?;
        }
        Ok(())
    }

    /// The settings of the cache, to be changed.
    pub fn cache_mut(&mut self) -> &mut super::cache::CacheSettings {
        Arc::make_mut(&mut self.cache)
    }

    /// Bytes of an answer that may wait in memory for a slow client.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        self.buffer_size as u64 + self.buffers.0 * self.buffers.1 as u64
    }

    /// Bytes that may wait in a temporary file; zero: none is used.
    #[must_use]
    pub fn file_limit(&self) -> u64 {
        self.max_temp_file_size.unwrap_or(1 << 30)
    }

    /// `hide_header`.
    ///
    /// # Errors
    /// None beyond a missing argument.
    pub fn hide(&mut self, d: &Directive) -> Result<(), Error> {
        self.hide_headers.push(d.arg(0)?.bytes.to_ascii_lowercase().into());
        Ok(())
    }

    /// `pass_header`.
    ///
    /// # Errors
    /// None beyond a missing argument.
    pub fn unhide(&mut self, d: &Directive) -> Result<(), Error> {
        self.pass_headers.push(d.arg(0)?.bytes.to_ascii_lowercase().into());
        Ok(())
    }

    /// `bind`.
    ///
    /// # Errors
    /// `invalid address`, `invalid parameter`.
    pub fn set_bind(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        let word = d.arg(0)?;
        if word.is("off") {
            self.bind = Bind::Off;
            return Ok(());
        }
        let transparent = match d.args.get(1) {
            None => false,
            Some(word) if word.is("transparent") => {
                cx.needs_net_raw = true;
                true
            }
            Some(word) => return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))),
        };
        let address = Template::compile(cx, word)?;
        if let Some(text) = address.as_literal()
            && super::connect::parse_bind(text).is_none()
        {
            return Err(Error::at(word, format!("invalid address \"{}\"", word.as_str())));
        }
        self.bind = Bind::Address { address, transparent };
        Ok(())
    }
}
