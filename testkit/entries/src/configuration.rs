//! The configuration language, with all that the directives make of their arguments.
//!
//! Nothing outside is touched: there are no other files, names have no addresses, sockets and logs are `/dev/null`.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use conf::resources::{LogFile, Resources, SocketSpec};
use conf::{Body, Contexts, Order, Row, Schema, Sources, Style};
use http::Side;
use http::conf::compile;
use http::module::Registry;
use server::core_conf::{self, CoreConf};
use server::engine::Engine;
use server::http_engine::HttpEngine;

use crate::dice::Dice;

pub(crate) const LINES: &[&[u8]] = &[
    b"events { worker_connections 10; } ",
    b"http { ",
    b"stream { ",
    b"send \"\\x00\"; expect ~ a; ",
    b"server { ",
    b"location / { ",
    b"location ~ ^/(a|b)$ { ",
    b"upstream u { server 127.0.0.1:1 weight=2; server 127.0.0.1:2 backup; } ",
    b"map $uri $m { default 1; ~^/a 2; include x; } ",
    b"geo $g { 10.0.0.0/8 a; ranges; } ",
    b"if ($arg_a = b) { ",
    b"proxy_pass http://u; ",
    b"proxy_set_header A \"$host:$1 ${m}\"; ",
    b"limit_req_zone $uri zone=z:1m rate=1r/s; ",
    b"proxy_cache_path /c keys_zone=c:1m levels=1:2; ",
    b"listen 127.0.0.1:80 ssl; ",
    b"server_name a.* *.b ~^(?<x>.)$; ",
    b"rewrite ^/(.*)$ /$1?a=$x last; ",
    b"return 200 \"$m\"; ",
    b"log_format f escape=json '$a'; ",
    b"include *.conf; ",
    b"# comment\n",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"} ",
    b"}",
    b"; ",
    b"$",
    b"${",
    b" 99999999999999999999 ",
    b" -1 ",
    b" 1k ",
    b" on ",
];

/// Arguments that some directive might take for what it wants.
#[rustfmt::skip]
const ARGUMENTS: &[&str] = &[
    "on", "off", "0", "1", "-1", "3", "18446744073709551615", "9223372036854775807", "4294967296", "65536", "1k", "8m",
    "9999999999999g", "0s", "1ms", "5s", "1h30m", "99999999999d", "max", "epoch", "modified", "@1h", "\"\"", "''", "$uri",
    "${arg_a}$1", "$", "${", "\"a $host b\"", "/", "/a/b", "/$uri", "a", "*", "*.a", "a.*", ".a", "~", "~*", "~^/(?<n>.)$", "~(", "=",
    "^~", "@named", "127.0.0.1", "127.0.0.1:80", "[::1]:80", ":80", "80", "99999", "unix:/a", "unix:", "http://u", "http://$host",
    "https://a:1/b?c", "grpc://u", "fastcgi", "10.0.0.0/8", "10.0.0.0/99", "::/0", "all", "any", "200", "404", "999", "=200", "http_500",
    "error", "timeout", "zone=z:1m", "zone=z", "keys_zone=c:1m", "levels=1:2", "levels=9:9:9", "max_size=1", "inactive=0", "rate=1r/s",
    "rate=0r/m", "burst=5", "burst=18446744073709551615", "nodelay", "delay=1", "size=1", "size=99999999999", "buffer=4k", "flush=1s",
    "gzip=9", "gzip", "if=$a", "weight=0", "weight=4294967295", "max_fails=1", "fail_timeout=0", "backup", "down", "resolve", "service=a",
    "slow_start=1h", "route=a", "max_conns=1", "bound=1.25", "consistent", "two", "least_conn", "header", "last_byte", "inflight",
    "interval=1", "jitter=0", "fails=1", "passes=0", "uri=/", "port=70000", "type=grpc", "match=a", "mandatory", "persistent", "cookie",
    "learn", "create=$a", "lookup=$b", "domain=a", "path=/", "secure", "httponly", "samesite=lax", "expires=max", "always", "inherit",
    "default_server", "ssl", "http2", "quic", "reuseport", "backlog=1", "rcvbuf=1", "sndbuf=1k", "so_keepalive=1:2:3", "deferred",
    "fastopen=1", "proxy_protocol", "ipv6only=on", "last", "break", "permanent", "redirect", "utf-8", "windows-1251", "text/html",
    "gzip_types", "GET", "POST", "combined", "escape=json", "debug", "crit", "stderr", "syslog:server=127.0.0.1", "memory:1k", "min_uses=1",
    "valid=1s", "ipv6=off", "status_zone=a", "TLSv1.3", "HIGH:!aNULL", "prime256v1", "builtin:1", "shared:s:1m", "optional", "none",
    "epoll", "auto", "1 2 3", "{", "}", ";", "\\", "%", "50%", "0.001%", "100.5%", "^(a|b)*$", "a{2}", "(?i)x", "\\1", "1-9", "a=b", "!",
];

/// Where a directive stands, from the outside in.
const SURROUNDINGS: [(Contexts, &str, &str); 13] = [
    (Contexts::MAIN, "events {} ", ""),
    (Contexts::EVENTS, "events { ", " }"),
    (Contexts::HTTP, "events {} http { ", " }"),
    (Contexts::SERVER, "events {} http { server { ", " } }"),
    (
        Contexts::LOCATION,
        "events {} http { upstream u { server 127.0.0.1:1; } server { location / { ",
        " } } }",
    ),
    (Contexts::UPSTREAM, "events {} http { upstream u { server 127.0.0.1:1; ", " } }"),
    (Contexts::IF_SERVER, "events {} http { server { if ($uri) { ", " } } }"),
    (Contexts::IF_LOCATION, "events {} http { server { location / { if ($uri) { ", " } } } }"),
    (Contexts::MATCH, "events {} http { match a { ", " } }"),
    (Contexts::STREAM, "events {} stream { ", " }"),
    (
        Contexts::STREAM_SERVER,
        "events {} stream { upstream u { zone z 64k; server 127.0.0.1:1; } server { listen 1; proxy_pass u; ",
        " } }",
    ),
    (Contexts::STREAM_UPSTREAM, "events {} stream { upstream u { server 127.0.0.1:1; ", " } }"),
    (Contexts::STREAM_MATCH, "events {} stream { match a { ", " } }"),
];

/// One directive or a few at a place where they may stand, with arguments by chance: what parses, and mostly is refused.
pub fn directives(dice: &mut Dice) -> Vec<u8> {
    let rows: Vec<&Row> = SCHEMA.rows().collect();
    let (context, before, after) = SURROUNDINGS[dice.roll(SURROUNDINGS.len())];
    let fitting: Vec<&Row> = rows.into_iter().filter(|row| row.contexts.has(context)).collect();
    let mut text = before.to_owned();
    for _ in 0..=dice.roll(3) {
        let Some(row) = dice.one_of(&fitting) else { break };
        text.push_str(row.name);
        let defaults: Vec<&str> = row.default.split(' ').filter(|word| !word.is_empty()).collect();
        let counts: Vec<usize> =
            (0..8).filter(|count| row.arity.is_flag() || row.arity.allows(*count)).collect();
        let count = counts.get(dice.roll(counts.len())).copied().unwrap_or(1);
        for nth in 0..count {
            let default = defaults.get(nth).filter(|_| dice.roll(3) == 0).copied();
            let word = default.or_else(|| dice.one_of(ARGUMENTS)).unwrap_or_default();
            text.push(' ');
            text.push_str(word);
        }
        text.push_str(if row.body == Body::None { "; " } else { " { a b; } " });
    }
    text.push_str(after);
    text.into_bytes()
}

static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::new(core_conf::ROWS.iter().chain(HttpEngine::rows())));
static REGISTRY: LazyLock<Registry> = LazyLock::new(server::http_engine::registry);

/// What a configuration finds outside: nothing.
struct Nothing<'t>(&'t [u8]);

const MAIN: &str = "/conf/nginx.conf";

impl Resources for Nothing<'_> {
    fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        if path == Path::new(MAIN) { Ok(Arc::from(self.0)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn glob(&mut self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn socket(&mut self, _: &SocketSpec) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(std::fs::File::open("/dev/null")?.into()))
    }

    fn log(&mut self, path: &Path) -> io::Result<Arc<LogFile>> {
        Ok(Arc::new(LogFile::new(path.to_owned(), std::fs::File::open("/dev/null")?.into())))
    }

    fn directory(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn resolve(&mut self, host: &str) -> io::Result<Vec<IpAddr>> {
        host.parse().map(|addr| vec![addr]).map_err(|_| io::ErrorKind::NotFound.into())
    }
}

pub(crate) fn configuration(text: &[u8]) {
    let (mut nothing, mut sources, mut notices) = (Nothing(text), Sources::new(), Vec::new());
    let paths = server::Paths {
        prefix: "/prefix".into(),
        conf_file: MAIN.into(),
        conf_dir: "/conf".into(),
        error_log: None,
    };
    let (tree, broken) =
        conf::parse_as_far_as_good(&paths.conf_file, &SCHEMA, &mut nothing, None, &mut sources);
    let sides = [(Side::Http, "http"), (Side::Stream, "stream")]
        .map(|(side, name)| (side, tree.directives.iter().find(|line| line.name.is(name))));
    let own = compile::Paths { prefix: paths.prefix.clone(), conf_prefix: paths.conf_dir.clone() };
    let mut wrong: Vec<_> = match broken {
        Some(error) => vec![error],
        None => CoreConf::compile(&tree, &paths, HttpEngine::modules(), &mut notices)
            .and_then(|core| {
                sides.iter().try_for_each(|(side, block)| {
                    let threads = core.threads;
                    compile::compile(&REGISTRY, *side, *block, &own, threads, &mut nothing, &mut notices)
                        .map(drop)
                })
            })
            .err()
            .into_iter()
            .collect(),
    };
    if let Some(error) = wrong.first() {
        let before = error.order.unwrap_or(Order::END_OF_BLOCK);
        let modules = HttpEngine::modules();
        wrong.extend(CoreConf::wrong_line(&tree, &paths, modules, before, &mut notices));
        for (side, block) in sides {
            wrong.extend(compile::wrong_line(
                &REGISTRY,
                side,
                block,
                &own,
                &mut nothing,
                before,
                &mut notices,
            ));
        }
    }
    for error in wrong.iter().chain(&notices) {
        let said = error.render(&sources, Style::Plain);
        assert!(!said.is_empty() && said.len() < text.len() * 4 + 4096, "{said}");
    }
}
