use super::directives_markdown;
use crate::{Arity, Contexts, Row, Schema, documented};

static ROWS: &[Row] = &Row::of(
    "ngx_http_proxy_module",
    [
        Row::new("proxy_pass", Contexts::LOCATION, Arity::ONE).doc("passes a request on"),
        Row::new("proxy_read_timeout", Contexts::HTTP_ALL, Arity::ONE).default("60s").doc("a | b"),
        Row::new("proxy_ssl_key_log", Contexts::HTTP_ALL, Arity::ONE).refused("keys stay here"),
        Row::new("proxy_of_our_own", Contexts::HTTP, Arity::ONE).doc("d"),
    ],
);

#[test]
fn every_documented_directive_has_a_line() {
    let schema = Schema::new(ROWS);
    let text = directives_markdown(&schema, documented());
    for known in documented() {
        let start = format!("| `{}` | {} |", known.row.name, known.row.module);
        assert!(text.contains(&start), "{start}");
    }
    let check = |line: &str| assert!(text.lines().any(|found| found == line), "{line}");
    check(
        "| `proxy_pass` | ngx_http_proxy_module | open source | works | location, if in location, limit_except |  | passes a request on |",
    );
    check(
        "| `proxy_read_timeout` | ngx_http_proxy_module | open source | works | http, server, location | `60s` | a \\| b |",
    );
    check(
        "| `proxy_ssl_key_log` | ngx_http_proxy_module | commercial | refused: keys stay here | http, server, location |  |  |",
    );
    check(
        "| `gzip` | ngx_http_gzip_module | open source | not yet | http, server, location, if in location |  |  |",
    );
    let (_, own) = text.split_once("## Beyond nginx").expect("a part of its own");
    assert!(own.contains("| `proxy_of_our_own` | ngx_http_proxy_module | own | works | http |  | d |"));
    assert!(!own.contains("`proxy_pass`"));
    // `proxy_pass` of stream shares the name and no context.
    check("| `proxy_pass` | ngx_stream_proxy_module | open source | not yet | server in stream |  |  |");
}
