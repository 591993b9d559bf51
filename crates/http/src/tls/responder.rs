//! Asking an OCSP responder over HTTP (RFC 6960, appendix A), as `ssl_stapling` and `ssl_ocsp` do.
//!
//! Whatever goes wrong is logged here, in nginx's sentences; who asks only learns that there is no answer.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use net::tls::pem;
use net::{Buf, Deadline, Stream};
use os::errlog::{Errno, Level};
use os::socket::{ConnectState, Kind, PeerAddr};

use crate::conf::compile::Cx;
use crate::conf::core::CoreSettings;
use crate::conf::{UpstreamUrl, UriPart, parse_upstream_url};

/// Longest answer, bytes.
const LONGEST: usize = 64 << 10;

/// Who is asked.
#[derive(Clone, Debug)]
pub struct Responder {
    /// As in `Host`; a Unix socket with `unix:` in front.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The path, which begins with a slash.
    pub path: String,
    /// Its addresses as far as they are known without a resolver.
    pub addrs: Vec<PeerAddr>,
}

/// What is wrong with the URL of a responder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why} in OCSP responder \"{shown}\"")]
pub struct UrlError {
    why: &'static str,
    shown: String,
}

impl Responder {
    /// Reads a URL. Names are not looked up: only what is an address by itself is known.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(url: &[u8]) -> Result<Self, UrlError> {
        let fail = |why, text: &[u8]| UrlError { why, shown: String::from_utf8_lossy(text).into_owned() };
        let (scheme, address) = url.split_at(url.len().min(7));
        if address.is_empty() || !scheme.eq_ignore_ascii_case(b"http://") {
            return Err(fail("invalid URL prefix", url));
        }
        let parts = parse_upstream_url(address, UriPart::Allowed).map_err(|why| fail(why, address))?;
        let (host, port) = (parts.host_text(), parts.port.unwrap_or(80));
        let path = match String::from_utf8_lossy(parts.uri).into_owned() {
            path if path.starts_with('/') => path,
            rest => format!("/{rest}"),
        };
        let addrs = literal(&parts, port).into_iter().collect();
        Ok(Self { host, port, path, addrs })
    }

    /// Reads a URL and looks its name up, while a configuration is compiled.
    ///
    /// # Errors
    /// [`UrlError`], `host not found` among them.
    pub fn look_up(url: &[u8], cx: &mut Cx<'_>) -> Result<Self, UrlError> {
        let mut responder = Self::parse(url)?;
        if responder.addrs.is_empty() {
            let found = cx.resources.resolve(&responder.host).unwrap_or_default();
            let addr = |ip| PeerAddr::Inet(SocketAddr::new(ip, responder.port));
            responder.addrs = found.into_iter().map(addr).collect();
        }
        if responder.addrs.is_empty() {
            let shown = String::from_utf8_lossy(url.get(7..).unwrap_or_default()).into_owned();
            return Err(UrlError { why: "host not found", shown });
        }
        Ok(responder)
    }
}

/// The address that a host is by itself.
fn literal(parts: &UpstreamUrl<'_>, port: u16) -> Option<PeerAddr> {
    let host = parts.host_text();
    if let Some(path) = host.strip_prefix("unix:") {
        return Some(PeerAddr::Unix(path.into()));
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
    let ip = base::address::ip(bare)?;
    Some(PeerAddr::Inet(SocketAddr::new(ip, port)))
}

/// One question to a responder, and where is told of what comes of it.
pub(super) struct Inquiry<'a> {
    pub responder: &'a Responder,
    /// The resolver of the server.
    pub core: &'a CoreSettings,
    /// How long each address may take, milliseconds; `None`: who asks gives up by himself.
    pub timeout_ms: Option<u64>,
    /// The file of the certificate that is asked about, where it is one's own.
    pub certificate: Option<&'a str>,
    pub log: &'a dyn Fn(Level, fmt::Arguments<'_>),
}

/// What a responder has sent.
pub(super) struct Reply {
    /// The answer, in DER unless the responder has something else in mind.
    pub der: Vec<u8>,
    /// Who has sent it.
    pub peer: PeerAddr,
}

impl Inquiry<'_> {
    /// Asks one address after the other until one answers. `None`: nobody did, and why is logged.
    pub async fn ask(&self, question: &[u8]) -> Option<Reply> {
        let request = self.request(question);
        for addr in self.addresses().await? {
            let answer = match self.exchange(&addr, &request).await {
                Ok(answer) => answer,
                Err(why) => {
                    self.tell(Level::Error, Some(&addr), format_args!("{why}"));
                    continue;
                }
            };
            match body(&answer) {
                Ok((200, body)) => return Some(Reply { der: body.to_vec(), peer: addr }),
                // nginx says nothing here, and asks nobody else either.
                Ok((status, _)) => {
                    let why = format_args!("OCSP responder sent invalid \"status\": {status}");
                    self.tell(Level::Error, Some(&addr), why);
                    return None;
                }
                Err(why) => self.tell(Level::Error, Some(&addr), format_args!("{why}")),
            }
        }
        None
    }

    /// Logs a message with what it is about (`ngx_ssl_ocsp_log_error`).
    pub fn tell(&self, level: Level, peer: Option<&PeerAddr>, message: fmt::Arguments<'_>) {
        let mut about = format!("responder: {}", self.responder.host);
        if let Some(peer) = peer {
            about += &format!(", peer: {peer}");
        }
        if let Some(certificate) = self.certificate {
            about += &format!(", certificate: \"{certificate}\"");
        }
        (self.log)(level, format_args!("{message} while requesting certificate status, {about}"));
    }

    /// Whom to ask, in turn.
    async fn addresses(&self) -> Option<Vec<PeerAddr>> {
        let Responder { host, port, addrs, .. } = self.responder;
        let is_literal =
            host.starts_with('[') || host.starts_with("unix:") || base::address::ip(host).is_some();
        if is_literal {
            return Some(addrs.clone());
        }
        let Some(resolver) = &self.core.resolver else {
            let level = if addrs.is_empty() { Level::Error } else { Level::Warn };
            self.tell(level, None, format_args!("no resolver defined to resolve {host}"));
            return (!addrs.is_empty()).then(|| addrs.clone());
        };
        match net::resolver::resolve(resolver, host, *port, self.core.resolver_timeout).await {
            Ok(found) => Some(found.into_iter().map(PeerAddr::Inet).collect()),
            Err(error) => {
                let code = error.code();
                self.tell(Level::Error, None, format_args!("{host} could not be resolved ({code}: {error})"));
                None
            }
        }
    }

    /// Sends a request and reads until the responder closes; an error says what failed.
    async fn exchange(&self, addr: &PeerAddr, request: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |call: &str| {
            let call = call.to_owned();
            move |error: io::Error| match error.kind() {
                io::ErrorKind::TimedOut => "OCSP responder timed out (110: Connection timed out)".to_owned(),
                _ => format!("{call} failed {}", Errno(&error)),
            }
        };
        let deadline = Deadline::new();
        if let Some(timeout_ms) = self.timeout_ms {
            deadline.set_after(timeout_ms);
        }
        let fd = os::socket::open(addr, Kind::Stream).map_err(failed("socket()"))?;
        let connect = format!("connect() to {addr}");
        let state = os::socket::connect(fd.as_fd(), addr).map_err(failed(&connect))?;
        let stream = Stream::new(fd);
        if state == ConnectState::InProgress {
            stream.connected(&deadline).await.map_err(failed(&connect))?;
        }
        stream.send_all(request, &deadline).await.map_err(failed("send()"))?;
        let mut answer = Buf::with_capacity(16 << 10);
        while answer.len() < LONGEST {
            answer.reserve(4096);
            if stream.recv(&mut answer, 4096, &deadline).await.map_err(failed("recv()"))? == 0 {
                break;
            }
        }
        Ok(answer.to_vec())
    }

    fn request(&self, question: &[u8]) -> Vec<u8> {
        let mut base64 = Vec::new();
        pem::encode(question, &mut base64);
        let mut out = format!("GET {}", self.responder.path).into_bytes();
        if !self.responder.path.ends_with('/') {
            out.push(b'/');
        }
        proto::uri::escape(&base64, proto::uri::EscapeKind::UriComponent, &mut out);
        out.extend_from_slice(format!(" HTTP/1.0\r\nHost: {}\r\n\r\n", self.responder.host).as_bytes());
        out
    }
}

/// Status and body of a responder's answer.
fn body(answer: &[u8]) -> Result<(u16, &[u8]), String> {
    let head = memchr::memmem::find(answer, b"\r\n\r\n").map(|at| (at, at + 4));
    let head = head.or_else(|| memchr::memmem::find(answer, b"\n\n").map(|at| (at, at + 2)));
    let Some((end, start)) = head else {
        return Err("OCSP responder prematurely closed connection".to_owned());
    };
    let text = String::from_utf8_lossy(&answer[..end]);
    let mut lines = text.lines();
    let status = lines.next().unwrap_or_default();
    let code = status.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default();
    let code = Some(code).filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
    let Some(code) = code else { return Err("OCSP responder sent invalid response".to_owned()) };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("Content-Type")
            && !value.eq_ignore_ascii_case("application/ocsp-response")
        {
            return Err(format!("OCSP responder sent invalid \"Content-Type\" header: \"{value}\""));
        }
    }
    Ok((code, &answer[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let check = |text: &str, expected: Result<(u16, &str), &str>| {
            let found = body(text.as_bytes());
            let found =
                found.as_ref().map(|(status, body)| (*status, std::str::from_utf8(body).unwrap_or_default()));
            assert_eq!(found.map_err(String::as_str), expected, "{text}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n\r\nabc", Ok((200, "abc")));
        check("HTTP/1.0 200 OK\nA: b\n\nabc", Ok((200, "abc")));
        check("HTTP/1.1 404 Not Found\r\n\r\n", Ok((404, "")));
        check("abc\r\n\r\n", Err("OCSP responder sent invalid response"));
        check("HTTP/1.1 -20 OK\r\n\r\n", Err("OCSP responder sent invalid response"));
        check("HTTP/1.1 200 OK\r\n", Err("OCSP responder prematurely closed connection"));
        check(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n",
            Err("OCSP responder sent invalid \"Content-Type\" header: \"text/html\""),
        );
    }

    #[test]
    fn urls() {
        let check = |url: &str, expected: Result<(&str, u16, &str, &str), &str>| {
            let found = Responder::parse(url.as_bytes()).map(|found| {
                let addrs: Vec<String> = found.addrs.iter().map(ToString::to_string).collect();
                (found.host, found.port, found.path, addrs.join(" "))
            });
            let expected = expected
                .map(|(host, port, path, addrs)| (host.to_owned(), port, path.to_owned(), addrs.to_owned()));
            assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{url}");
        };
        check("http://127.0.0.1:8081", Ok(("127.0.0.1", 8081, "/", "127.0.0.1:8081")));
        check("HTTP://ocsp.example.com/a", Ok(("ocsp.example.com", 80, "/a", "")));
        check("http://[::1]/", Ok(("[::1]", 80, "/", "[::1]:80")));
        check("http://unix:/tmp/s:/a", Ok(("unix:/tmp/s", 80, "/a", "unix:/tmp/s")));
        check("https://a", Err("invalid URL prefix in OCSP responder \"https://a\""));
        check("http://", Err("invalid URL prefix in OCSP responder \"http://\""));
        check("http://a:x/", Err("invalid port in OCSP responder \"a:x/\""));
        check("http:///a", Err("no host in OCSP responder \"/a\""));
    }
}
