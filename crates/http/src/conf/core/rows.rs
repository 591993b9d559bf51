//! The core module's directives, one row each.

use conf::{Arity, Contexts};
use proto::h1::Version;

use super::setters as set;
use super::{BodyInFile, CoreSettings, IfModifiedSince, LingeringClose, Satisfy, ServerTokens, gzip_proxied};
use crate::rows::{
    Row, flag, is_number, is_size, number, offset, row, size, time, value, without_effect as none,
};

const ALL: Contexts = Contexts::HTTP_ALL;
const TOP: Contexts = Contexts::HTTP_SERVER;
const WITH_IF: Contexts = Contexts::HTTP_ALL.or(Contexts::IF_LOCATION);

/// `http` and `stream`.
const BOTH: Contexts = Contexts::HTTP.or(Contexts::STREAM);
/// Every level of both.
const EVERY: Contexts = ALL.or(Contexts::STREAM_ALL);
/// `server` of both.
const SERVERS: Contexts = Contexts::SERVER.or(Contexts::STREAM_SERVER);

const NO_HASH: &str = "tables grow as they need to";
const NO_POOL: &str = "memory does not come from pools of a fixed size";
const NO_AIO: &str = "files are read by sendfile or from the page cache";

pub(super) static ROWS: [Row<CoreSettings>; 89] = [
    none("variables_hash_max_size", BOTH, Arity::ONE, NO_HASH).checked(is_number),
    none("variables_hash_bucket_size", BOTH, Arity::ONE, NO_HASH).checked(is_number),
    none("server_names_hash_max_size", BOTH, Arity::ONE, NO_HASH).checked(is_number),
    none("server_names_hash_bucket_size", BOTH, Arity::ONE, NO_HASH).checked(is_number),
    none("types_hash_max_size", ALL, Arity::ONE, NO_HASH).checked(is_number),
    none("types_hash_bucket_size", ALL, Arity::ONE, NO_HASH).checked(is_number),
    none("connection_pool_size", TOP, Arity::ONE, NO_POOL).checked(is_size),
    none("request_pool_size", TOP, Arity::ONE, NO_POOL).checked(is_size),
    none("aio", ALL, Arity::ONE, NO_AIO).checked(set::aio),
    none("aio_write", ALL, Arity::FLAG, NO_AIO),
    none("read_ahead", ALL, Arity::ONE, "the kernel reads ahead by itself").checked(is_size),
    none("send_lowat", ALL, Arity::ONE, "it has no effect on Linux").checked(is_size),
    none("directio_alignment", ALL, Arity::ONE, NO_AIO).checked(is_size),
    none("open_file_cache_events", ALL, Arity::FLAG, "it needs kqueue"),
    row("server", Contexts::HTTP, Arity::NOARGS, "", "Defines a virtual server.", set::nothing)
        .block(Contexts::SERVER),
    row("server", Contexts::STREAM, Arity::NOARGS, "", "Defines a server of connections.", set::nothing)
        .block(Contexts::STREAM_SERVER),
    row(
        "location",
        Contexts::SERVER.or(Contexts::LOCATION),
        Arity::TAKE12,
        "",
        "Settings by URI.",
        set::nothing,
    )
    .block(Contexts::LOCATION),
    row(
        "limit_except",
        Contexts::LOCATION,
        Arity::MORE1,
        "",
        "Settings for all other methods.",
        set::nothing,
    )
    .block(Contexts::LIMIT_EXCEPT),
    row(
        "listen",
        SERVERS,
        Arity::MORE1,
        "",
        "Address, port or socket that the server listens on.",
        set::listen,
    )
    .many(),
    row("server_name", SERVERS, Arity::MORE1, "", "Names of the server.", set::server_name).many(),
    row("types", ALL, Arity::NOARGS, "", "Media types by file extension.", set::types).free(),
    row(
        "default_type",
        ALL,
        Arity::ONE,
        "text/plain",
        "Media type of files without a known extension.",
        set::default_type,
    ),
    row("root", WITH_IF, Arity::ONE, "", "Directory that URIs are looked up in.", set::root),
    row("alias", Contexts::LOCATION, Arity::ONE, "", "Path that replaces the location's own.", set::alias),
    time("client_header_timeout", TOP, "60s", "Time to read a request's head.", |s, v| {
        s.client_header_timeout = v
    }),
    size("client_header_buffer_size", TOP, "1k", "First buffer for a request's head.", |s, v| {
        s.client_header_buffer_size = v
    }),
    row(
        "large_client_header_buffers",
        TOP,
        Arity::TWO,
        "4 8k",
        "Further buffers for a large head.",
        set::large_client_header_buffers,
    ),
    number("max_headers", TOP, "1000", "Most header fields of a request.", |s, v| s.max_headers = v as usize),
    flag("ignore_invalid_headers", TOP, "on", "Drops fields with invalid names.", |s, v| {
        s.ignore_invalid_headers = v
    }),
    flag("merge_slashes", TOP, "on", "Makes one slash of several in a path.", |s, v| s.merge_slashes = v),
    flag("underscores_in_headers", TOP, "off", "Allows underscores in field names.", |s, v| {
        s.underscores_in_headers = v
    }),
    offset("client_max_body_size", ALL, "1m", "Largest request body; 0: any.", |s, v| {
        s.client_max_body_size = v
    }),
    size("client_body_buffer_size", ALL, "16k", "Request body kept in memory.", |s, v| {
        s.client_body_buffer_size = v
    }),
    time("client_body_timeout", ALL, "60s", "Time between two reads of a request body.", |s, v| {
        s.client_body_timeout = v
    }),
    row(
        "client_body_temp_path",
        ALL,
        Arity::TAKE1234,
        "client_body_temp",
        "Directory for request bodies.",
        set::client_body_temp_path,
    ),
    value(
        "client_body_in_file_only",
        ALL,
        Arity::ONE,
        "off",
        "Writes every request body to a file.",
        |s, d| {
            d.one_of(&[("off", BodyInFile::Off), ("on", BodyInFile::On), ("clean", BodyInFile::Clean)])
                .map(|v| s.client_body_in_file_only = v)
        },
    ),
    flag("client_body_in_single_buffer", ALL, "off", "Keeps a body in one buffer.", |s, v| {
        s.client_body_in_single_buffer = v
    }),
    flag("sendfile", WITH_IF, "off", "Sends files by sendfile(2).", |s, v| s.sendfile = v),
    size("sendfile_max_chunk", ALL, "2m", "Most bytes of one sendfile call.", |s, v| {
        s.sendfile_max_chunk = v as u64
    }),
    row("output_buffers", ALL, Arity::TWO, "2 32k", "Buffers for reading a file.", set::output_buffers),
    size("subrequest_output_buffer_size", ALL, "4k", "Body of a subrequest kept in memory.", |s, v| {
        s.subrequest_output_buffer_size = v
    }),
    row(
        "directio",
        ALL,
        Arity::ONE,
        "off",
        "File size from which the page cache is passed by.",
        set::directio,
    ),
    flag("tcp_nopush", ALL, "off", "Fills packets before they are sent.", |s, v| s.tcp_nopush = v),
    flag("tcp_nodelay", EVERY, "on", "Sends small packets at once.", |s, v| s.tcp_nodelay = v),
    time("send_timeout", ALL, "60s", "Time between two writes to the client.", |s, v| s.send_timeout = v),
    size("postpone_output", ALL, "1460", "Bytes gathered before something is sent.", |s, v| {
        s.postpone_output = v
    }),
    row("limit_rate", WITH_IF, Arity::ONE, "", "Bytes per second to a client.", set::limit_rate),
    row(
        "limit_rate_after",
        WITH_IF,
        Arity::ONE,
        "",
        "Bytes before the rate is limited.",
        set::limit_rate_after,
    ),
    time("keepalive_time", ALL, "1h", "Longest life of a client connection.", |s, v| s.keepalive_time = v),
    row(
        "keepalive_timeout",
        ALL,
        Arity::TAKE12,
        "75s",
        "Idle time of a client connection.",
        set::keepalive_timeout,
    ),
    time(
        "keepalive_min_timeout",
        ALL,
        "0",
        "Idle time before which a connection is not closed early.",
        |s, v| s.keepalive_min_timeout = v,
    ),
    number("keepalive_requests", ALL, "1000", "Requests per client connection.", |s, v| {
        s.keepalive_requests = v
    }),
    row(
        "keepalive_disable",
        ALL,
        Arity::TAKE12,
        "msie6",
        "Browsers without keep-alive.",
        set::keepalive_disable,
    )
    .many(),
    value("satisfy", ALL, Arity::ONE, "all", "Whether all access modules must agree.", |s, d| {
        d.one_of(&[("all", Satisfy::All), ("any", Satisfy::Any)]).map(|v| s.satisfy = v)
    }),
    time("auth_delay", ALL, "0s", "Delay of answers with status 401.", |s, v| s.auth_delay = v),
    row("internal", Contexts::LOCATION, Arity::NOARGS, "", "For internal requests only.", |s, _, _| {
        s.internal = true;
        Ok(())
    }),
    value("lingering_close", ALL, Arity::ONE, "on", "Reads on before closing.", |s, d| {
        d.one_of(&[
            ("off", LingeringClose::Off),
            ("on", LingeringClose::On),
            ("always", LingeringClose::Always),
        ])
        .map(|v| s.lingering_close = v)
    }),
    time("lingering_time", ALL, "30s", "Longest time of reading on.", |s, v| s.lingering_time = v),
    time("lingering_timeout", ALL, "5s", "Time to wait for more while reading on.", |s, v| {
        s.lingering_timeout = v
    }),
    flag("reset_timedout_connection", ALL, "off", "Resets connections that timed out.", |s, v| {
        s.reset_timedout_connection = v
    }),
    flag("absolute_redirect", ALL, "on", "Makes redirects absolute.", |s, v| s.absolute_redirect = v),
    flag("server_name_in_redirect", ALL, "off", "Redirects to the server's first name.", |s, v| {
        s.server_name_in_redirect = v
    }),
    flag("port_in_redirect", ALL, "on", "Redirects with the port.", |s, v| s.port_in_redirect = v),
    flag("msie_padding", ALL, "on", "Fills small error pages for MSIE.", |s, v| s.msie_padding = v),
    flag("msie_refresh", ALL, "off", "Refreshes instead of redirects for MSIE.", |s, v| s.msie_refresh = v),
    flag("log_not_found", ALL, "on", "Logs files that are not there.", |s, v| s.log_not_found = v),
    value("post_action", WITH_IF, Arity::ONE, "", "A location that is asked after the answer.", |s, d| {
        let target = &d.arg(0)?.bytes;
        s.post_action = (!target.is_empty()).then(|| target.as_ref().into());
        Ok(())
    }),
    flag("log_subrequest", ALL, "off", "Logs subrequests.", |s, v| s.log_subrequest = v),
    flag("recursive_error_pages", ALL, "off", "Error pages of error pages.", |s, v| {
        s.recursive_error_pages = v
    }),
    value("server_tokens", ALL, Arity::ONE, "on", "How much of the version is shown.", |s, d| {
        d.one_of(&[("on", ServerTokens::On), ("off", ServerTokens::Off), ("build", ServerTokens::Build)])
            .map(|v| s.server_tokens = v)
    }),
    value("if_modified_since", ALL, Arity::ONE, "exact", "How If-Modified-Since is compared.", |s, d| {
        d.one_of(&[
            ("off", IfModifiedSince::Off),
            ("exact", IfModifiedSince::Exact),
            ("before", IfModifiedSince::Before),
        ])
        .map(|v| s.if_modified_since = v)
    }),
    row("max_ranges", ALL, Arity::ONE, "", "Most ranges of a request.", set::max_ranges),
    flag("chunked_transfer_encoding", ALL, "on", "Chunked answers in HTTP/1.1.", |s, v| {
        s.chunked_transfer_encoding = v
    }),
    flag("etag", ALL, "on", "ETag of static files.", |s, v| s.etag = v),
    row("error_page", WITH_IF, Arity::MORE2, "", "What is shown for an error.", set::error_page).many(),
    row("error_log", EVERY, Arity::MORE1, "", "Log of errors and its level.", set::error_log).many(),
    row("open_file_cache", ALL, Arity::TAKE12, "off", "Keeps open files.", set::open_file_cache),
    time("open_file_cache_valid", ALL, "60s", "Time after which an open file is checked.", |s, v| {
        s.open_file_cache_valid = v
    }),
    number("open_file_cache_min_uses", ALL, "1", "Uses that keep a file open.", |s, v| {
        s.open_file_cache_min_uses = u32::try_from(v).unwrap_or(u32::MAX)
    }),
    flag("open_file_cache_errors", ALL, "off", "Remembers files that are not there.", |s, v| {
        s.open_file_cache_errors = v
    }),
    row("disable_symlinks", ALL, Arity::TAKE12, "off", "Refuses symbolic links.", set::disable_symlinks),
    row("resolver", EVERY, Arity::MORE1, "", "Name servers.", set::resolver),
    time("resolver_timeout", EVERY, "30s", "Time for resolving a name.", |s, v| s.resolver_timeout = v),
    flag("gzip_vary", ALL, "off", "Adds Vary: Accept-Encoding.", |s, v| s.gzip_vary = v),
    value("gzip_http_version", ALL, Arity::ONE, "1.1", "Oldest HTTP that gets gzip.", |s, d| {
        s.gzip_http_version = d.one_of(&[("1.0", Version::HTTP_10), ("1.1", Version::HTTP_11)])?;
        Ok(())
    }),
    row(
        "gzip_proxied",
        ALL,
        Arity::MORE1,
        "off",
        "Which answers to proxies get gzip.",
        |s: &mut CoreSettings, cx, d| {
            s.gzip_proxied = cx.bits(d, &gzip_proxied::NAMES)?;
            Ok(())
        },
    )
    .many(),
    row("gzip_disable", ALL, Arity::MORE1, "", "Clients that get no gzip.", set::gzip_disable).many(),
    row(
        "early_hints",
        ALL,
        Arity::MORE1,
        "",
        "When early hints of an upstream are passed on.",
        |s: &mut CoreSettings, cx, d| s.early_hints.push_words(cx, d),
    )
    .many(),
    row(
        "client_body_early_read",
        TOP,
        Arity::MORE1,
        "",
        "When a body is read before anything else.",
        |s: &mut CoreSettings, cx, d| s.client_body_early_read.push_words(cx, d),
    )
    .many(),
];
