//! The directives of the proxy module.
//!
//! Those that every upstream protocol has come from `relay_rows!`.

use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::rows::{Row, flag, is_number, row, template, value, without_effect};
use http::variables::Template;

use super::{HttpVersion, ProxySettings, cookie, pass, redirect};

const ALL: Contexts = Contexts::HTTP_ALL;
const PASS: Contexts = Contexts::LOCATION.or(Contexts::IF_LOCATION).or(Contexts::LIMIT_EXCEPT);

http::relay_rows!("proxy", ProxySettings, RELAY_ROWS);
http::relay_tls_rows!("proxy", ProxySettings, TLS_ROWS);

/// What it shares with other upstream protocols.
pub(super) static SHARED_ROWS: [&[Row<ProxySettings>]; 6] =
    [RELAY_ROWS[0], RELAY_ROWS[1], RELAY_ROWS[2], RELAY_ROWS[3], RELAY_ROWS[4], &TLS_ROWS];

#[rustfmt::skip]
pub(super) static ROWS: [Row<ProxySettings>; 14] = [
    row("proxy_pass", PASS, Arity::ONE, "", "Where requests are passed to.", pass::set),
    row("proxy_redirect", ALL, Arity::TAKE12, "default", "Rewrites Location and Refresh.", redirect::set).many(),
    row("proxy_cookie_domain", ALL, Arity::TAKE12, "off", "Rewrites the domain of cookies.", cookie::domain).many(),
    row("proxy_cookie_path", ALL, Arity::TAKE12, "off", "Rewrites the path of cookies.", cookie::path).many(),
    row("proxy_cookie_flags", ALL, Arity::TAKE1234, "off", "Sets or removes flags of cookies.", cookie::flags).many(),
    row("proxy_set_header", ALL, Arity::TWO, "Host $proxy_host", "Sets a field of the request.", |s: &mut ProxySettings, cx, d| s.set_fields.set(cx, d)).many(),
    row("proxy_set_body", ALL, Arity::ONE, "", "Sets the request's body.", set_body),
    template("proxy_method", ALL, "Method of the request, in the place of the client's.", |s, v| s.method = Some(v)),
    value("proxy_http_version", ALL, Arity::ONE, "1.1", "Version spoken to the upstream.", http_version),
    flag("proxy_pass_trailers", ALL, "off", "Passes the trailers of the answer.", |s, v| s.relay.pass_trailers = v),
    flag("proxy_cache_convert_head", ALL, "on", "Asks by GET where HEAD was asked, to keep the answer.", |s, v| s.relay.cache_mut().convert_head = v),
    without_effect("proxy_send_lowat", ALL, Arity::ONE, "Linux has no low-water mark for sending"),
    without_effect("proxy_headers_hash_max_size", ALL, Arity::ONE, "no hash of names is built").checked(is_number),
    without_effect("proxy_headers_hash_bucket_size", ALL, Arity::ONE, "no hash of names is built").checked(is_number),
];

fn set_body(s: &mut ProxySettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.body = Some(Template::compile(cx, d.arg(0)?)?);
    Ok(())
}

fn http_version(s: &mut ProxySettings, d: &Directive) -> Result<(), Error> {
    s.http_version =
        d.one_of(&[("1.0", HttpVersion::Http10), ("1.1", HttpVersion::Http11), ("2", HttpVersion::Http2)])?;
    Ok(())
}
