//! `ssl_stapling`: OCSP answers that are sent along with the certificate.
//!
//! They are fetched in the background when a client comes and the last one is old; nobody waits for them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use net::tls::x509::Certificate;
use net::tls::{Identity, Trust, ocsp, pem};
use net::{Buf, Deadline, Stream};
use os::errlog::{Errno, ErrorLog, Level};
use os::socket::{ConnectState, Kind, PeerAddr};

use crate::conf::core::CoreSettings;

/// Longest answer, bytes.
const LONGEST: usize = 64 << 10;
/// How long a responder may take, milliseconds.
const TIMEOUT_MS: u64 = 60_000;
/// Seconds until a failure is tried again, and the least between two fetches.
const RETRY: i64 = 300;
/// Seconds after which an answer is fetched anew at the latest.
const LATEST: i64 = 3600;

/// Where answers come from.
pub struct Responder {
    /// As in `Host`.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The path, which begins with a slash.
    pub path: String,
    /// Its addresses as they were at load.
    pub addrs: Vec<SocketAddr>,
}

/// The answers for one certificate of one server.
pub struct Stapling {
    identity: Arc<Identity>,
    issuer: Certificate,
    responder: Responder,
    trust: Option<Arc<Trust>>,
    core: Arc<CoreSettings>,
    valid_until: AtomicI64,
    refresh_at: AtomicI64,
    is_loading: AtomicBool,
}

impl Stapling {
    /// Answers of a responder; with `trust` their signers are judged.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        issuer: Certificate,
        responder: Responder,
        trust: Option<Arc<Trust>>,
        core: Arc<CoreSettings>,
    ) -> Self {
        Self {
            identity,
            issuer,
            responder,
            trust,
            core,
            valid_until: AtomicI64::new(i64::MAX),
            refresh_at: AtomicI64::new(0),
            is_loading: AtomicBool::new(false),
        }
    }

    /// Takes back an answer whose time is over, and fetches another where it is time to.
    pub fn freshen(self: &Arc<Self>, log: &Arc<ErrorLog>) {
        let now = net::timer::wall_clock().0;
        if self.valid_until.load(Ordering::Relaxed) < now {
            self.identity.staple(None);
            self.valid_until.store(i64::MAX, Ordering::Relaxed);
        }
        if self.refresh_at.load(Ordering::Relaxed) >= now || self.is_loading.swap(true, Ordering::Relaxed) {
            return;
        }
        let (this, log) = (Arc::clone(self), Arc::clone(log));
        tokio::task::spawn_local(async move {
            let loading = Loading(&this.is_loading);
            let refresh_at = match this.load().await {
                Ok(refresh_at) => refresh_at,
                Err(why) => {
                    let responder = &this.responder.host;
                    let doing = "while requesting certificate status";
                    log.log(Level::Error, format_args!("{why} {doing}, responder: {responder}"));
                    net::timer::wall_clock().0 + RETRY
                }
            };
            this.refresh_at.store(refresh_at, Ordering::Relaxed);
            drop(loading);
        });
    }

    /// Fetches an answer and staples it; says when the next one is due.
    async fn load(&self) -> Result<i64, String> {
        let leaf = self.identity.chain().leaf();
        let question =
            ocsp::request(leaf, &self.issuer).map_err(|_| "OCSP_request_add0_id() failed".to_owned())?;
        let answer = self.fetch(&question).await?;
        let now = net::timer::wall_clock().0;
        let valid = ocsp::check(&answer, leaf, &self.issuer, self.trust.as_deref(), now)
            .map_err(|error| error.to_string())?;
        let valid = valid.unwrap_or(i64::MAX);
        self.identity.staple(Some(answer));
        self.valid_until.store(valid, Ordering::Relaxed);
        Ok(valid.saturating_sub(RETRY).min(now + LATEST).max(now + RETRY))
    }

    async fn fetch(&self, question: &[u8]) -> Result<Vec<u8>, String> {
        let mut addrs = self.responder.addrs.clone();
        if let Some(resolver) = &self.core.resolver {
            let (host, port) = (&self.responder.host, self.responder.port);
            match net::resolver::resolve(resolver, host, port, self.core.resolver_timeout).await {
                Ok(found) => addrs = found,
                Err(error) => return Err(format!("{host} could not be resolved ({error})")),
            }
        }
        let mut failure = "no OCSP responder address".to_owned();
        for addr in addrs {
            match self.ask(addr, question).await {
                Ok(answer) => return body(&answer).map(<[u8]>::to_vec),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    failure = "OCSP responder timed out (110: Connection timed out)".to_owned();
                }
                Err(error) => failure = format!("connect() failed {}", Errno(&error)),
            }
        }
        Err(failure)
    }

    async fn ask(&self, addr: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let deadline = Deadline::new();
        deadline.set_after(TIMEOUT_MS);
        let addr = PeerAddr::Inet(addr);
        let fd = os::socket::open(&addr, Kind::Stream)?;
        let state = os::socket::connect(std::os::fd::AsFd::as_fd(&fd), &addr)?;
        let stream = Stream::new(fd);
        if state == ConnectState::InProgress {
            stream.connected(&deadline).await?;
        }
        stream.send_all(&self.request(question), &deadline).await?;
        let mut answer = Buf::with_capacity(16 << 10);
        while answer.len() < LONGEST {
            answer.reserve(4096);
            if stream.recv(&mut answer, 4096, &deadline).await? == 0 {
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

/// Somebody is fetching, as long as this lives.
struct Loading<'a>(&'a AtomicBool);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The body of a responder's answer.
fn body(answer: &[u8]) -> Result<&[u8], String> {
    let head = memchr::memmem::find(answer, b"\r\n\r\n").map(|at| (at, at + 4));
    let head = head.or_else(|| memchr::memmem::find(answer, b"\n\n").map(|at| (at, at + 2)));
    let Some((end, start)) = head else {
        return Err("OCSP responder prematurely closed connection".to_owned());
    };
    let text = String::from_utf8_lossy(&answer[..end]);
    let mut lines = text.lines();
    let status = lines.next().unwrap_or_default();
    let code = status.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default();
    if code.len() != 3 {
        return Err("OCSP responder sent invalid response".to_owned());
    }
    if code != "200" {
        return Err(format!("OCSP responder sent invalid \"status\": {code}"));
    }
    let mut kind = None;
    for line in lines {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("Content-Type")
        {
            kind = Some(value.trim().to_owned());
        }
    }
    match kind {
        Some(kind) if !kind.eq_ignore_ascii_case("application/ocsp-response") => {
            Err(format!("OCSP responder sent invalid \"Content-Type\" header: \"{kind}\""))
        }
        _ => Ok(&answer[start..]),
    }
}

#[cfg(test)]
mod tests {
    use super::body;

    #[test]
    fn answers_are_taken_apart() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = body(text.as_bytes()).map(|body| String::from_utf8_lossy(body).into_owned());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n\r\nabc", Ok("abc"));
        check("HTTP/1.0 200 OK\nA: b\n\nabc", Ok("abc"));
        check("HTTP/1.1 404 Not Found\r\n\r\n", Err("OCSP responder sent invalid \"status\": 404"));
        check("abc\r\n\r\n", Err("OCSP responder sent invalid response"));
        check("HTTP/1.1 200 OK\r\n", Err("OCSP responder prematurely closed connection"));
        check(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n",
            Err("OCSP responder sent invalid \"Content-Type\" header: \"text/html\""),
        );
    }
}
