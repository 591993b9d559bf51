//! The core module's settings: what every location knows about bodies, timeouts, paths and answers; of `stream` only
//! what it has in common with `http`.
//!
//! Field names are nginx's directive names; sizes are bytes, times milliseconds.

mod error_page;
mod location_name;
mod rows;
mod setters;
mod types;

use std::path::PathBuf;
use std::sync::Arc;

use conf::Error;
use proto::h1::Version;

pub use self::error_page::{ErrorPage, Overwrite};
pub use self::location_name::{limit_except_methods, location_name, method_bit};
pub use self::setters::temp_path;
pub use self::types::Types;

use super::compile::Cx;
use crate::conf::Lines;
use crate::logging::ErrorLogs;
use crate::module::{Module, Registry, Settings, Slot};
use crate::open_file::{OpenFileCache, Symlinks};
use crate::regex::Regex;
use crate::resolver::ResolverConf;
use crate::rows::Row;
use crate::side::Side;
use crate::variables::Template;

/// `ngx_http_core_module`.
pub struct Core;

static SLOT: Slot = Slot::new();

impl Module for Core {
    const NAME: &'static str = "ngx_http_core_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = CoreSettings;
    type Main = ();

    fn rows() -> &'static [Row<CoreSettings>] {
        &rows::ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&crate::variables::core::VARIABLES);
        registry.prefixes(&crate::variables::core::PREFIXES);
        registry.stream_variables(&crate::variables::stream::VARIABLES);
        registry.stream_prefixes(&crate::variables::stream::PREFIXES);
    }
}

/// `root` or `alias`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// Not written: `html` under the prefix.
    #[default]
    Default,
    /// `root PATH`, literal and absolute.
    Path(PathBuf),
    /// `root` with variables.
    Template(Template),
    /// `alias PATH`, literal and absolute.
    Alias(PathBuf, Replaced),
    /// `alias` with variables (or in a regex location, with captures).
    AliasTemplate(Template, Replaced),
}

impl Root {
    /// What of the URI the path stands for; nothing with `root`.
    #[must_use]
    pub fn replaced(&self) -> Option<Replaced> {
        match self {
            Self::Alias(_, replaced) | Self::AliasTemplate(_, replaced) => Some(*replaced),
            _ => None,
        }
    }
}

/// What of the URI an `alias` stands for. Locations inside inherit it with the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The name of the location that has the `alias`: so many bytes.
    Prefix(usize),
    /// All of it, in a location with a regular expression.
    Whole,
}

/// `server_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTokens {
    /// The name and the version.
    #[default]
    On,
    /// The name alone.
    Off,
    /// The name, the version and what was built.
    Build,
}

/// `satisfy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// Every access module must agree.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// `lingering_close`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LingeringClose {
    /// Never.
    Off,
    /// When the client may still be sending.
    #[default]
    On,
    /// Always.
    Always,
}

/// `if_modified_since`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfModifiedSince {
    /// The condition is ignored.
    Off,
    /// The times must be equal.
    #[default]
    Exact,
    /// Not modified when not newer.
    Before,
}

/// `client_body_in_file_only`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyInFile {
    /// Only large bodies, and the file goes with the request.
    #[default]
    Off,
    /// Always, and the file stays.
    On,
    /// Always, and the file goes with the request.
    Clean,
}

/// `keepalive_disable`, as bits.
pub const KEEPALIVE_DISABLE_MSIE6: u32 = 1;
/// See [`KEEPALIVE_DISABLE_MSIE6`].
pub const KEEPALIVE_DISABLE_SAFARI: u32 = 2;

/// `gzip_proxied`, as bits.
#[expect(missing_docs, reason = "each bit is the word of that name")]
pub mod gzip_proxied {
    pub const OFF: u32 = 1;
    pub const EXPIRED: u32 = 2;
    pub const NO_CACHE: u32 = 4;
    pub const NO_STORE: u32 = 8;
    pub const PRIVATE: u32 = 16;
    pub const NO_LAST_MODIFIED: u32 = 32;
    pub const NO_ETAG: u32 = 64;
    pub const AUTH: u32 = 128;
    pub const ANY: u32 = 256;
    pub(super) const NAMES: [(&str, u32); 9] = [
        ("off", OFF),
        ("expired", EXPIRED),
        ("no-cache", NO_CACHE),
        ("no-store", NO_STORE),
        ("private", PRIVATE),
        ("no_last_modified", NO_LAST_MODIFIED),
        ("no_etag", NO_ETAG),
        ("auth", AUTH),
        ("any", ANY),
    ];
}

/// Settings of `ngx_http_core_module`.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own that is on or off")]
pub struct CoreSettings {
    pub client_header_timeout: u64,
    pub client_header_buffer_size: usize,
    pub large_client_header_buffers: (u32, usize),
    pub max_headers: usize,
    pub ignore_invalid_headers: bool,
    pub underscores_in_headers: bool,
    pub merge_slashes: bool,
    pub client_max_body_size: u64,
    pub client_body_buffer_size: usize,
    pub client_body_timeout: u64,
    pub client_body_temp_path: TempPath,
    pub client_body_in_file_only: BodyInFile,
    pub client_body_in_single_buffer: bool,
    pub sendfile: bool,
    pub sendfile_max_chunk: u64,
    pub output_buffers: (u32, usize),
    pub directio: Option<u64>,
    pub tcp_nopush: bool,
    pub tcp_nodelay: bool,
    pub send_timeout: u64,
    pub postpone_output: usize,
    pub limit_rate: Option<Template>,
    pub limit_rate_after: Option<Template>,
    pub keepalive_time: u64,
    pub keepalive_timeout: u64,
    pub keepalive_header: u64,
    pub keepalive_min_timeout: u64,
    pub keepalive_requests: u64,
    pub keepalive_disable: u32,
    pub satisfy: Satisfy,
    pub auth_delay: u64,
    pub internal: bool,
    pub lingering_close: LingeringClose,
    pub lingering_time: u64,
    pub lingering_timeout: u64,
    pub reset_timedout_connection: bool,
    pub absolute_redirect: bool,
    pub server_name_in_redirect: bool,
    pub port_in_redirect: bool,
    pub msie_padding: bool,
    pub msie_refresh: bool,
    pub log_not_found: bool,
    pub log_subrequest: bool,
    /// `post_action`: a path, or the name of a location.
    pub post_action: Option<Arc<[u8]>>,
    pub recursive_error_pages: bool,
    pub server_tokens: ServerTokens,
    pub if_modified_since: IfModifiedSince,
    pub max_ranges: Option<u64>,
    pub chunked_transfer_encoding: bool,
    pub etag: bool,
    pub error_pages: Lines<ErrorPage>,
    pub error_log: ErrorLogs,
    error_log_own: bool,
    pub open_file_cache: Option<Arc<OpenFileCache>>,
    pub open_file_cache_valid: u64,
    pub open_file_cache_min_uses: u32,
    pub open_file_cache_errors: bool,
    pub disable_symlinks: Symlinks,
    pub resolver: Option<Arc<ResolverConf>>,
    pub resolver_timeout: u64,
    pub root: Root,
    /// Which of `root` and `alias` this block itself has.
    root_directive: Option<&'static str>,
    pub types: Arc<Types>,
    types_own: bool,
    pub default_type: Arc<[u8]>,
    pub subrequest_output_buffer_size: usize,
    pub gzip_vary: bool,
    pub gzip_http_version: Version,
    /// Bits of [`gzip_proxied`].
    pub gzip_proxied: u32,
    pub gzip_disable: Lines<Regex>,
    pub gzip_disable_msie6: bool,
    pub early_hints: Lines<Template>,
    pub client_body_early_read: Lines<Template>,
}

/// Where temporary files go: a directory and up to three levels of subdirectories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TempPath {
    /// The directory, absolute.
    pub path: PathBuf,
    /// Lengths of the subdirectories' names.
    pub levels: [u8; 3],
}

impl Settings for CoreSettings {
    fn enter(&mut self) {
        self.error_pages.enter();
        self.error_log_own = false;
        self.types_own = false;
        self.early_hints.enter();
        self.client_body_early_read.enter();
        self.gzip_disable.enter();
        self.root_directive = None;
    }

    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Error> {
        if cx.side == Side::Stream {
            return Ok(());
        }
        if self.root == Root::Default {
            self.root = Root::Path(cx.path(b"html"));
        }
        if self.types.is_empty() {
            self.types = Arc::new(Types::built_in());
        }
        let path = &self.client_body_temp_path.path;
        if !path.as_os_str().is_empty() {
            cx.resources.directory(path).map_err(|error| {
                let reason = os::errlog::Errno(&error);
                Error::bare(format!("mkdir() \"{}\" failed {reason}", path.display()))
            })?;
        }
        Ok(())
    }
}
