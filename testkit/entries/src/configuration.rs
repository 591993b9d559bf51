//! The configuration language, with all that the directives make of their arguments.
//!
//! Nothing outside is touched: there are no other files, names have no addresses, sockets and logs are `/dev/null`.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conf::resources::{LogFile, Resources, SocketSpec};
use conf::{Schema, Sources, Style};
use server::core_conf::{self, CoreConf};
use server::engine::Engine;
use server::http_engine::HttpEngine;

pub(crate) const LINES: &[&[u8]] = &[
    b"events { worker_connections 10; } ",
    b"http { ",
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
    let schema = Schema::new(core_conf::ROWS.iter().chain(HttpEngine::rows()));
    let (mut nothing, mut sources, mut notices) = (Nothing(text), Sources::new(), Vec::new());
    let paths = server::Paths {
        prefix: "/prefix".into(),
        conf_file: MAIN.into(),
        conf_dir: "/conf".into(),
        error_log: None,
    };
    let compiled =
        conf::parse(&paths.conf_file, &schema, &mut nothing, None, &mut sources).and_then(|tree| {
            let core = CoreConf::compile(&tree, &paths, HttpEngine::modules(), &mut notices)?;
            let block = tree.directives.iter().find(|line| line.name.is("http"));
            let own = http::conf::compile::Paths {
                prefix: paths.prefix.clone(),
                conf_prefix: paths.conf_dir.clone(),
            };
            let registry = modules::registry();
            let (_, said) = http::conf::compile::compile(&registry, block, &own, core.threads, &mut nothing)?;
            notices.extend(said);
            Ok(())
        });
    for error in compiled.err().iter().chain(&notices) {
        let said = error.render(&sources, Style::Plain);
        assert!(!said.is_empty() && said.len() < text.len() * 4 + 4096, "{said}");
    }
}
