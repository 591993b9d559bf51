//! What `-v`, `-V` and `-h` print, in nginx's form, since tools read modules and paths out of it.
//!
//! A standard module that is not built shows as `--without-…`, an optional one that is built as `--with-…`.

use std::fmt::Write as _;

use base::version::BUILD;

use crate::cli::Show;
use crate::engine::Module;
use crate::paths::{CONF_PATH, ERROR_LOG_PATH, GROUPS, PID_PATH, PREFIX, USER};

/// Modules that nginx builds unless told otherwise, as `--without-X_module` names them.
const STANDARD: &[&str] = &[
    "http_charset",
    "http_gzip",
    "http_ssi",
    "http_userid",
    "http_access",
    "http_auth_basic",
    "http_mirror",
    "http_autoindex",
    "http_geo",
    "http_map",
    "http_split_clients",
    "http_referer",
    "http_rewrite",
    "http_proxy",
    "http_fastcgi",
    "http_uwsgi",
    "http_scgi",
    "http_grpc",
    "http_memcached",
    "http_limit_conn",
    "http_limit_req",
    "http_empty_gif",
    "http_browser",
    "http_tunnel",
    "http_upstream_hash",
    "http_upstream_ip_hash",
    "http_upstream_least_conn",
    "http_upstream_least_time",
    "http_upstream_random",
    "http_upstream_keepalive",
    "http_upstream_zone",
    "http_upstream_sticky",
    "mail_pop3",
    "mail_imap",
    "mail_smtp",
    "stream_limit_conn",
    "stream_access",
    "stream_geo",
    "stream_map",
    "stream_split_clients",
    "stream_return",
    "stream_pass",
    "stream_set",
    "stream_upstream_hash",
    "stream_upstream_least_conn",
    "stream_upstream_least_time",
    "stream_upstream_random",
    "stream_upstream_zone",
];

/// Modules that nginx builds when asked to, as `--with-X_module` names them, and [`PLAIN`].
const OPTIONAL: &[&str] = &[
    "http_ssl",
    "http_v2",
    "http_v3",
    "http_realip",
    "http_addition",
    "http_xslt",
    "http_image_filter",
    "http_geoip",
    "http_sub",
    "http_dav",
    "http_flv",
    "http_mp4",
    "http_gunzip",
    "http_gzip_static",
    "http_auth_request",
    "http_random_index",
    "http_secure_link",
    "http_degradation",
    "http_slice",
    "http_stub_status",
    "http_perl",
    "mail",
    "mail_ssl",
    "stream",
    "stream_ssl",
    "stream_realip",
    "stream_geoip",
    "stream_ssl_preread",
    "threads",
    "file-aio",
];

/// Those whose option does not end in `_module`.
const PLAIN: &[&str] = &["mail", "stream", "threads", "file-aio"];

/// The text for standard error.
pub fn text(show: Show, modules: &[Module]) -> String {
    let mut out = format!("nginx version: {BUILD}\n");
    if show.help {
        out.push_str(&help());
    }
    if show.configure {
        out.push_str("built with TLS by rustls; directives as with OpenSSL 3.0.22\n");
        out.push_str("TLS SNI support enabled\n");
        let _ = writeln!(out, "configure arguments:{}", arguments(modules));
    }
    out
}

fn help() -> String {
    format!(
        "Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]
             [-e filename] [-c filename] [-g directives]

Options:
  -?,-h         : this help
  -v            : show version and exit
  -V            : show version and configure options then exit
  -t            : test configuration and exit
  -T            : test configuration, dump it and exit
  -q            : suppress non-error messages during configuration testing
  -s signal     : send signal to a master process: stop, quit, reopen, reload
  -p prefix     : set prefix path (default: {PREFIX})
  -e filename   : set error log file (default: {ERROR_LOG_PATH})
  -c filename   : set configuration file (default: {CONF_PATH})
  -g directives : set global directives out of configuration file

"
    )
}

fn arguments(modules: &[Module]) -> String {
    let [_, group] = GROUPS;
    let mut out = format!(
        " --prefix={} --conf-path={CONF_PATH} --error-log-path={ERROR_LOG_PATH} \
         --http-log-path=/var/log/nginx/access.log --pid-path={PID_PATH} --user={USER} --group={group} --with-debug",
        PREFIX.trim_end_matches('/')
    );
    // The name behind nginx's version, in the first line here and in `server_tokens build`.
    let _ = write!(out, " --build=tidegate/{}", env!("CARGO_PKG_VERSION"));
    let built = |name: &str| modules.iter().any(|module| module.0 == name);
    for name in OPTIONAL.iter().filter(|name| built(name)) {
        let suffix = if PLAIN.contains(name) { "" } else { "_module" };
        let _ = write!(out, " --with-{name}{suffix}");
    }
    // nginx builds stream and mail, and so their modules, only when asked for.
    let asked_for = |name: &str| match name.split_once('_') {
        Some((family @ ("stream" | "mail"), _)) => built(family),
        _ => true,
    };
    for name in STANDARD.iter().filter(|name| asked_for(name) && !built(name)) {
        let _ = write!(out, " --without-{name}_module");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_named_as_configure_names_them() {
        let modules = [
            Module("http_ssl"),
            Module("http_proxy"),
            Module("stream"),
            Module("stream_map"),
            Module("http_core"),
        ];
        let text = text(Show { version: true, help: false, configure: true }, &modules);
        let check = |part: &str, there: bool| assert_eq!(text.contains(part), there, "{part}: {text}");
        check("nginx version: nginx/1.31.5 (tidegate/", true);
        check(" --with-http_ssl_module", true);
        check(" --with-stream ", true);
        check("http_proxy", false);
        check("http_core", false);
        check(" --without-http_gzip_module", true);
        check(" --without-stream_set_module", true);
        check("stream_map", false);
        check("mail", false);
        check("--with-debug", true);
        check(" --build=tidegate/", true);
        check("with OpenSSL 3.0.", true);
        for absent in ["LibreSSL", "BoringSSL", "AWS-LC", "=dynamic"] {
            check(absent, false);
        }
    }
}
