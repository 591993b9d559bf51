//! The rows of the benchmark: what each asks for, and the configuration that it runs under.
//! Configurations keep nginx's defaults wherever a row is not about the setting itself.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use crate::application::Kind;
use crate::clients::{Ask, Mode, Speech};
use crate::http2::{Call, MESSAGE};
use crate::process::is_root;
use crate::scale::Scale;
use crate::wire::Security;

/// Connections that the idle row holds unless the command line says otherwise.
pub const IDLE: usize = 10_000;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What `--rows` calls it.
    pub name: &'static str,
    /// What the reader of the list is told.
    pub what: &'static str,
    /// The path of every request.
    pub path: &'static str,
    /// The length of every response's body, in bytes.
    pub body: u64,
    /// Connections held open at once.
    pub connections: usize,
    /// What follows a response.
    pub mode: Mode,
    /// Whether it is asked under TLS.
    pub security: Security,
    /// What is spoken to the servers.
    pub speech: Speech,
    content: Content,
    log: Log,
    key: Key,
}

/// Which of the two programs a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// nginx.
    Nginx,
    /// Tidegate, which knows more parameters.
    Ours,
}

impl Flavor {
    /// Asks the program for its name.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn of(binary: &Path) -> io::Result<Self> {
        let said = Command::new(binary).arg("-V").stdin(Stdio::null()).output()?.stderr;
        let is_ours = String::from_utf8_lossy(&said).to_lowercase().contains("tidegate");
        Ok(if is_ours { Self::Ours } else { Self::Nginx })
    }
}

/// What the server's certificate is made with.
#[derive(Clone, Copy, Debug)]
enum Key {
    P256,
    Rsa2048,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Proxied,
    Static,
    /// Proxied as a site that follows nginx's guides does it: `guide.conf`.
    Guide,
    /// Answers of a large configuration.
    Large(Scale),
    /// Passed to a real application.
    Application(Kind),
    /// Passed on over gRPC.
    Grpc,
    /// Out of the cache, whose entries ours keeps there.
    Cached(Keep),
}

/// Where Tidegate has what it caches; nginx has it on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Memory,
    Disk,
}

#[derive(Clone, Copy, Debug)]
enum Log {
    Off,
    Combined,
}

const PROXIED: Row = Row {
    name: "proxy-100b",
    what: "proxied 100 B, 64 connections, access_log off",
    path: "/100",
    body: 100,
    connections: 64,
    mode: Mode::KeepAlive,
    security: Security::Plain,
    speech: Speech::Http1,
    content: Content::Proxied,
    log: Log::Off,
    key: Key::P256,
};

const STATIC: Row = Row {
    name: "static-1k",
    what: "static file of 1 KB, 64 connections, access_log off",
    path: "/1k.txt",
    body: 1024,
    content: Content::Static,
    ..PROXIED
};

const CACHED: Row = Row {
    name: "cache-1k",
    what: "cache hits of 1 KB, ours in memory, 64 connections",
    path: "/1k",
    body: 1024,
    content: Content::Cached(Keep::Memory),
    ..PROXIED
};

const LARGE: Row = Row {
    name: Scale::Map.name(),
    what: "a map of 100,000 entries, 64 connections",
    path: "/",
    body: Scale::BODY,
    content: Content::Large(Scale::Map),
    ..PROXIED
};

/// All rows, in the order of the table.
pub const ROWS: [Row; 33] = [
    PROXIED,
    Row {
        name: "proxy-100b-log",
        what: "proxied 100 B, 64 connections, access log in nginx's default way",
        log: Log::Combined,
        ..PROXIED
    },
    Row {
        name: "proxy-100b-guide",
        what: "the same with a guide's map, limit_req, gzip, headers and 20 regex locations",
        content: Content::Guide,
        log: Log::Combined,
        ..PROXIED
    },
    Row { name: "proxy-100b-512", what: "proxied 100 B, 512 connections", connections: 512, ..PROXIED },
    Row {
        name: "proxy-16k",
        what: "proxied 16 KB, 64 connections, default buffers",
        path: "/16k",
        body: 16 * 1024,
        ..PROXIED
    },
    Row {
        name: "proxy-1m",
        what: "proxied 1 MB, 16 connections, default buffers",
        path: "/1m",
        body: 1024 * 1024,
        connections: 16,
        ..PROXIED
    },
    STATIC,
    Row {
        name: "static-1k-log",
        what: "static file of 1 KB, 64 connections, access log in nginx's default way",
        log: Log::Combined,
        ..STATIC
    },
    Row {
        name: "static-1m",
        what: "static file of 1 MB, 16 connections",
        path: "/1m.bin",
        body: 1024 * 1024,
        connections: 16,
        ..STATIC
    },
    CACHED,
    Row {
        name: "cache-16k",
        what: "cache hits of 16 KB, ours in memory, 64 connections",
        path: "/16k",
        body: 16 * 1024,
        ..CACHED
    },
    Row {
        name: "cache-1m",
        what: "cache hits of 1 MB, ours in memory, 16 connections",
        path: "/1m",
        body: 1024 * 1024,
        connections: 16,
        ..CACHED
    },
    Row {
        name: "cache-disk-1k",
        what: "cache hits of 1 KB from the disk, 64 connections",
        content: Content::Cached(Keep::Disk),
        ..CACHED
    },
    Row {
        name: "cache-disk-16k",
        what: "cache hits of 16 KB from the disk, 64 connections",
        path: "/16k",
        body: 16 * 1024,
        content: Content::Cached(Keep::Disk),
        ..CACHED
    },
    Row {
        name: "cache-disk-1m",
        what: "cache hits of 1 MB from the disk, 16 connections",
        path: "/1m",
        body: 1024 * 1024,
        connections: 16,
        content: Content::Cached(Keep::Disk),
        ..CACHED
    },
    Row {
        name: "close-100b",
        what: "proxied 100 B, a new connection for each request, 64 at once",
        mode: Mode::Close,
        ..PROXIED
    },
    Row {
        name: "tls-100b",
        what: "proxied 100 B under TLS 1.3, 64 connections",
        security: Security::Tls,
        ..PROXIED
    },
    Row {
        name: "tls-1m",
        what: "proxied 1 MB under TLS 1.3, 16 connections",
        path: "/1m",
        body: 1024 * 1024,
        connections: 16,
        security: Security::Tls,
        ..PROXIED
    },
    Row {
        name: "tls-close-p256",
        what: "TLS 1.3 connections with one request each, P-256",
        mode: Mode::Close,
        security: Security::Tls,
        ..PROXIED
    },
    Row {
        name: "tls-close-resumed",
        what: "the same with resumed sessions",
        mode: Mode::Close,
        security: Security::Resumed,
        ..PROXIED
    },
    Row {
        name: "tls-close-rsa",
        what: "the same with RSA-2048",
        mode: Mode::Close,
        security: Security::Tls,
        key: Key::Rsa2048,
        ..PROXIED
    },
    Row {
        name: "h2-1-stream",
        what: "proxied 100 B over HTTP/2 in clear text, 64 connections with one stream each",
        speech: Speech::Http2(Call::Get, 1),
        ..PROXIED
    },
    Row {
        name: "h2-32-streams",
        what: "proxied 100 B over HTTP/2 in clear text, 4 connections with 32 streams each",
        connections: 4,
        speech: Speech::Http2(Call::Get, 32),
        ..PROXIED
    },
    Row {
        name: "grpc-unary",
        what: "unary calls of gRPC with messages of 100 B, 4 connections with 16 streams each",
        path: "/bench.Echo/Unary",
        body: MESSAGE as u64,
        connections: 4,
        speech: Speech::Http2(Call::Grpc, 16),
        content: Content::Grpc,
        ..PROXIED
    },
    Row {
        name: "php-fpm-100b",
        what: "100 B of PHP-FPM over FastCGI on a Unix socket, 16 connections",
        path: "/index.php?100",
        connections: 16,
        content: Content::Application(Kind::Php),
        log: Log::Combined,
        ..PROXIED
    },
    Row {
        name: "php-fpm-32k",
        what: "32 KB of PHP-FPM, a page of a usual size, 16 connections",
        path: "/index.php?32768",
        body: 32 << 10,
        connections: 16,
        content: Content::Application(Kind::Php),
        log: Log::Combined,
        ..PROXIED
    },
    Row {
        name: "gunicorn-100b",
        what: "100 B of Gunicorn on a Unix socket, as guides configure it, 16 connections",
        path: "/?100",
        connections: 16,
        content: Content::Application(Kind::Gunicorn),
        log: Log::Combined,
        ..PROXIED
    },
    Row {
        name: "gunicorn-32k",
        what: "32 KB of Gunicorn, a page of a usual size, 16 connections",
        path: "/?32768",
        body: 32 << 10,
        connections: 16,
        content: Content::Application(Kind::Gunicorn),
        log: Log::Combined,
        ..PROXIED
    },
    Row {
        name: "idle",
        what: "memory of idle keep-alive connections after one proxied request each",
        connections: IDLE,
        mode: Mode::Idle,
        ..PROXIED
    },
    LARGE,
    Row {
        name: Scale::Geo.name(),
        what: "a geo of 100,000 networks, 64 connections",
        content: Content::Large(Scale::Geo),
        ..LARGE
    },
    Row {
        name: Scale::Regexes.name(),
        what: "1,000 locations with regular expressions, 64 connections",
        content: Content::Large(Scale::Regexes),
        ..LARGE
    },
    Row {
        name: Scale::Servers.name(),
        what: "5,000 servers of two names, 64 connections",
        content: Content::Large(Scale::Servers),
        ..LARGE
    },
];

const PROXY: &str = "proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";";

/// The locations of rows with a real application.
const PHP: &str = concat!(
    "fastcgi_pass origin;\n",
    include_str!("../../conf/fastcgi_params"),
    "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;"
);
const GUNICORN: &str = concat!(
    "proxy_pass http://origin;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n",
    "proxy_set_header Host $host;\nproxy_set_header X-Real-IP $remote_addr;\n",
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n",
    "proxy_set_header X-Forwarded-Proto $scheme;\nproxy_set_header X-Request-ID $request_id;"
);

impl Row {
    /// Its requests, which take turns.
    pub fn asks(&self) -> Vec<Ask> {
        match self.content {
            Content::Large(scale) => scale.asks(),
            _ => vec![Ask::new(self.path)],
        }
    }

    /// The application that must run behind the servers.
    pub fn application(&self) -> Option<Kind> {
        match self.content {
            Content::Application(kind) => Some(kind),
            _ => None,
        }
    }

    /// Writes the configuration into the prefix directory `prefix`, and static files into `html` beside it.
    ///
    /// Both servers read the same files: where a file's pages lie in memory is felt with long ones. `origin` is an
    /// address as `server` takes it.
    ///
    /// # Errors
    /// What the system says when it cannot write there.
    pub fn prepare(&self, prefix: &Path, listen: u16, origin: &str, kind: Flavor) -> io::Result<()> {
        for name in ["logs", "temp"] {
            fs::create_dir_all(prefix.join(name))?;
        }
        let html = prefix.with_file_name("html");
        if self.content == Content::Static {
            let len = usize::try_from(self.body).unwrap_or_default();
            let file = html.join(self.path.trim_start_matches('/'));
            if !file.exists() {
                fs::create_dir_all(&html)?;
                fs::write(file, vec![b'x'; len])?;
            }
        }
        fs::write(prefix.join("nginx.conf"), self.config(listen, origin, &html, kind))
    }

    /// The parameter of `listen` and the lines of a server under TLS.
    fn tls(&self) -> (&'static str, String) {
        if self.security == Security::Plain {
            return ("", String::new());
        }
        let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/certs");
        let name = match self.key {
            Key::P256 => "localhost",
            Key::Rsa2048 => "rsa",
        };
        let lines = format!(
            "\n        ssl_protocols TLSv1.3;\n        ssl_certificate {certificates}/{name}.crt;\n        \
             ssl_certificate_key {certificates}/{name}.key;"
        );
        (" ssl", lines)
    }

    /// The lines of a cache.
    fn zone(&self, kind: Flavor) -> String {
        let Content::Cached(keep) = self.content else { return String::new() };
        let memory = if (keep, kind) == (Keep::Memory, Flavor::Ours) { " memory=256m" } else { "" };
        format!("    proxy_cache_path cache levels=1:2 keys_zone=c:10m{memory};\n    proxy_cache_valid 1h;\n")
    }

    fn config(&self, listen: u16, origin: &str, html: &Path, kind: Flavor) -> String {
        let log = match self.log {
            Log::Off => "access_log off;",
            Log::Combined => "access_log logs/access.log;",
        };
        if self.content == Content::Guide {
            return include_str!("guide.conf")
                .replace("@LISTEN@", &listen.to_string())
                .replace("@ORIGIN@", origin)
                .replace("@TEMP@", &temp_paths());
        }
        let location = match self.content {
            Content::Static => format!("root {};\n            sendfile on;", html.display()),
            Content::Large(_) => String::new(),
            Content::Application(Kind::Php) => {
                let folder = Path::new(origin.trim_start_matches("unix:")).with_file_name("");
                format!("root {};\n{PHP}", folder.display())
            }
            Content::Application(Kind::Gunicorn) => GUNICORN.to_owned(),
            Content::Grpc => "grpc_pass grpc://origin;".to_owned(),
            Content::Proxied | Content::Guide => PROXY.to_owned(),
            Content::Cached(_) => format!("{PROXY}\n            proxy_cache c;\n            sendfile on;"),
        };
        let zone = self.zone(kind);
        let temp = temp_paths();
        let (ssl, certificate) = self.tls();
        // The old form, which every nginx knows; a limit of requests would only measure connecting.
        let (http2, requests) = match self.speech {
            Speech::Http1 => ("", ""),
            Speech::Http2(..) => (" http2", "\n        keepalive_requests 1000000000;"),
        };
        let servers = match self.content {
            Content::Large(scale) => scale.config(listen),
            _ => format!(
                "
    upstream origin {{
        server {origin};
        keepalive 128;
    }}

    server {{
        listen 127.0.0.1:{listen}{ssl}{http2};{certificate}{requests}
        location / {{
            {location}
        }}
    }}
"
            ),
        };
        format!(
            "worker_processes 1;
daemon off;
pid nginx.pid;
error_log logs/error.log;
events {{
    worker_connections 20480;
}}
http {{
    {log}
{temp}{zone}{servers}}}
"
        )
    }
}

fn temp_paths() -> String {
    let mut temp = String::new();
    // Only another user than root cannot create the built-in directories; root needs no directives
    // of protocols that no row speaks.
    let others: &[&str] = if is_root() { &[] } else { &["fastcgi", "uwsgi", "scgi"] };
    for name in ["client_body", "proxy"].iter().chain(others) {
        let _ = writeln!(temp, "    {name}_temp_path temp/{name};");
    }
    temp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::BODIES;

    #[test]
    fn names_are_unique_and_bodies_are_known() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..at].iter().all(|other| other.name != row.name), "{}", row.name);
            let known = BODIES.iter().any(|&(path, len)| path == row.path && len as u64 == row.body);
            let is_own = matches!(row.content, Content::Proxied | Content::Guide | Content::Cached(_));
            assert!(known || !is_own, "{}", row.name);
        }
    }

    #[test]
    fn configurations_differ_in_log_and_content() {
        let check = |name: &str, expected: &[&str]| {
            let row = ROWS.iter().find(|row| row.name == name);
            let config = row
                .map(|row| row.config(8080, "127.0.0.1:9090", Path::new("/html"), Flavor::Ours))
                .unwrap_or_default();
            for text in expected {
                assert!(config.contains(text), "{name}: {text}");
            }
        };
        check("proxy-100b", &["access_log off;", "proxy_pass http://origin;", "listen 127.0.0.1:8080;"]);
        check("proxy-100b-log", &["access_log logs/access.log;", "server 127.0.0.1:9090;", "keepalive 128;"]);
        check("proxy-100b-guide", &["listen 127.0.0.1:8080;", "server 127.0.0.1:9090;", "limit_req zone="]);
        check("cache-1k", &["keys_zone=c:10m memory=256m;", "proxy_cache c;"]);
        check("cache-disk-1k", &["keys_zone=c:10m;", "proxy_cache c;", "sendfile on;"]);
        check("static-1k", &["access_log off;", "root /html;"]);
        check("php-fpm-100b", &["fastcgi_pass origin;", "fastcgi_param REMOTE_ADDR", "SCRIPT_FILENAME"]);
    }
}
