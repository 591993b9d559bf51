//! Log lines as syslog datagrams (RFC 3164), for error and access logs: `syslog:server=…`.
//!
//! Follows `ngx_syslog.c`, its sentences included. A failed send closes the socket; the next one opens it anew.

use std::fmt::{self, Write as _};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::clock;
use crate::socket::{PeerAddr, Transparency, connect_datagram};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv", "ftp",
    "ntp", "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Where syslog servers listen.
const DEFAULT_PORT: u16 = 514;

/// The parameters of `syslog:`, read but nothing opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogOptions {
    /// `server=`, as it was written: an address with or without port, a name, or `unix:` and a path.
    pub server: String,
    /// `facility=`, 0 to 23; local7 by default.
    pub facility: u8,
    /// `severity=`, 0 to 7, for access logs; info by default.
    pub severity: u8,
    /// `tag=`; `nginx` by default.
    pub tag: String,
    /// Whether the host's name is in each line; `nohostname` leaves it out.
    pub host: Hostname,
}

/// Whether a line bears the host's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hostname {
    /// As RFC 3164 wants it.
    #[default]
    Shown,
    /// `nohostname`.
    Omitted,
}

/// What is wrong with the parameters of `syslog:`, in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogError(String);

impl fmt::Display for SyslogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SyslogError {}

impl SyslogOptions {
    /// Reads what stands behind `syslog:`.
    ///
    /// # Errors
    /// [`SyslogError`] with nginx's sentence.
    pub fn parse(text: &str) -> Result<Self, SyslogError> {
        let (mut server, mut facility, mut severity, mut tag) = (None, None, None, None);
        let mut host = Hostname::Shown;
        for parameter in text.split(',') {
            match parameter.split_once('=') {
                Some(("server", value)) => once("server", &mut server, value.to_owned())?,
                Some(("facility", value)) => {
                    once("facility", &mut facility, index_of(&FACILITIES, "facility", value)?)?;
                }
                Some(("severity", value)) => {
                    once("severity", &mut severity, index_of(&SEVERITIES, "severity", value)?)?;
                }
                Some(("tag", value)) => {
                    check_tag(value)?;
                    once("tag", &mut tag, value.to_owned())?;
                }
                None if parameter == "nohostname" => host = Hostname::Omitted,
                _ => return Err(SyslogError(format!("unknown syslog parameter \"{parameter}\""))),
            }
        }
        let server = server.ok_or_else(|| SyslogError("no syslog server specified".to_owned()))?;
        Ok(Self {
            server,
            facility: facility.unwrap_or(23),
            severity: severity.unwrap_or(6),
            tag: tag.unwrap_or_else(|| "nginx".to_owned()),
            host,
        })
    }

    /// The address behind `server=`; a host's name is given to `lookup`.
    ///
    /// # Errors
    /// [`SyslogError`] with nginx's sentence when there is no such host or the port is none.
    pub fn resolve(
        &self,
        lookup: impl FnOnce(&str) -> io::Result<Vec<IpAddr>>,
    ) -> Result<PeerAddr, SyslogError> {
        let server = self.server.as_str();
        let failed = |why: &str| SyslogError(format!("{why} in syslog server \"{server}\""));
        if let Some(path) = server.strip_prefix("unix:") {
            return match path {
                "" => Err(failed("no path in the unix domain socket")),
                _ => Ok(PeerAddr::Unix(PathBuf::from(path))),
            };
        }
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse::<u16>().ok())
            }
            _ => (server, Some(DEFAULT_PORT)),
        };
        let port = port.filter(|port| *port != 0).ok_or_else(|| failed("invalid port"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ip = match bare.parse() {
            Ok(ip) => Some(ip),
            Err(_) => lookup(host).ok().and_then(|found| found.first().copied()),
        };
        let ip = ip.ok_or_else(|| failed("host not found"))?;
        Ok(PeerAddr::Inet(SocketAddr::new(ip, port)))
    }
}

fn once<T>(name: &str, slot: &mut Option<T>, value: T) -> Result<(), SyslogError> {
    match slot.replace(value) {
        Some(_) => Err(SyslogError(format!("duplicate syslog \"{name}\""))),
        None => Ok(()),
    }
}

fn index_of(names: &[&str], what: &str, value: &str) -> Result<u8, SyslogError> {
    let index = names.iter().position(|name| *name == value).and_then(|index| u8::try_from(index).ok());
    index.ok_or_else(|| SyslogError(format!("unknown syslog {what} \"{value}\"")))
}

fn check_tag(tag: &str) -> Result<(), SyslogError> {
    if tag.len() > 32 {
        return Err(SyslogError("syslog tag length exceeds 32".to_owned()));
    }
    if tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(SyslogError("syslog \"tag\" only allows alphanumeric characters and underscore".to_owned()))
}

/// A syslog server that lines are sent to.
#[derive(Debug)]
pub struct Syslog {
    options: SyslogOptions,
    addr: PeerAddr,
    hostname: String,
    socket: Mutex<Option<OwnedFd>>,
}

impl Syslog {
    /// A server from what stands behind `syslog:`; a host's name is looked up by the system.
    ///
    /// # Errors
    /// As [`SyslogOptions::parse`] and [`SyslogOptions::resolve`].
    pub fn parse(text: &str) -> Result<Self, SyslogError> {
        let options = SyslogOptions::parse(text)?;
        let addr =
            options.resolve(|host| Ok((host, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect()))?;
        Ok(Self::new(options, addr))
    }

    /// A server; nothing is opened before the first line.
    #[must_use]
    pub fn new(options: SyslogOptions, addr: PeerAddr) -> Self {
        let hostname = crate::process::hostname();
        Self { options, addr, hostname, socket: Mutex::new(None) }
    }

    /// The parameters that it was made from.
    #[must_use]
    pub fn options(&self) -> &SyslogOptions {
        &self.options
    }

    /// Sends one line with the configured severity, as access logs do.
    ///
    /// # Errors
    /// Those of opening the socket and of `send(2)`.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.send_as(self.options.severity, message)
    }

    /// Sends one line with a severity of 0 (emerg) to 7 (debug).
    ///
    /// # Errors
    /// Those of opening the socket and of `send(2)`.
    pub fn send_as(&self, severity: u8, message: &[u8]) -> io::Result<()> {
        let mut line = self.header(severity, clock::realtime_sec()).into_bytes();
        line.extend_from_slice(message);
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = match socket.take() {
            Some(fd) => fd,
            None => connect_datagram(&self.addr, None, Transparency::Own)?,
        };
        match crate::io::send(fd.as_fd(), &line) {
            // A full buffer loses the line, as a datagram may; the socket itself is in order.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => {
                *socket = Some(fd);
                Ok(())
            }
        }
    }

    fn header(&self, severity: u8, unix_sec: i64) -> String {
        let now = clock::local_time(unix_sec);
        let month = MONTHS.get(usize::from(now.month.saturating_sub(1))).copied().unwrap_or_default();
        let priority = u16::from(self.options.facility) * 8 + u16::from(severity);
        let mut text =
            format!("<{priority}>{month} {:2} {:02}:{:02}:{:02} ", now.day, now.hour, now.minute, now.second);
        if self.options.host == Hostname::Shown {
            let _ = write!(text, "{} ", self.hostname);
        }
        let _ = write!(text, "{}: ", self.options.tag);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn parameters() {
        let check = |text: &str, expected: Result<(&str, u8, u8, &str), &str>| {
            let parsed = SyslogOptions::parse(text);
            let seen = match &parsed {
                Ok(options) => {
                    Ok((options.server.as_str(), options.facility, options.severity, options.tag.as_str()))
                }
                Err(error) => Err(error.0.as_str()),
            };
            assert_eq!(seen, expected, "{text}");
        };
        check("server=127.0.0.1", Ok(("127.0.0.1", 23, 6, "nginx")));
        check("server=unix:/x,facility=user,severity=error,tag=SEE_ME", Ok(("unix:/x", 1, 3, "SEE_ME")));
        check("server=a,nohostname", Ok(("a", 23, 6, "nginx")));
        check("facility=user", Err("no syslog server specified"));
        check("server=a,server=b", Err("duplicate syslog \"server\""));
        check("server=a,facility=foo", Err("unknown syslog facility \"foo\""));
        check("server=a,severity=err", Err("unknown syslog severity \"err\""));
        check("server=a,tag=a b", Err("syslog \"tag\" only allows alphanumeric characters and underscore"));
        check("server=a,tag=123456789012345678901234567890123", Err("syslog tag length exceeds 32"));
        check("server=a,color=red", Err("unknown syslog parameter \"color=red\""));
    }

    #[test]
    fn servers() {
        let check = |server: &str, expected: Option<&str>| {
            let options = SyslogOptions::parse(&format!("server={server}")).expect("options");
            assert_eq!(
                options
                    .resolve(|_| Ok(vec![[10, 0, 0, 1].into()]))
                    .ok()
                    .map(|addr| addr.to_string())
                    .as_deref(),
                expected,
                "{server}"
            );
        };
        check("127.0.0.1", Some("127.0.0.1:514"));
        check("127.0.0.1:8080", Some("127.0.0.1:8080"));
        check("[::1]", Some("[::1]:514"));
        check("[::1]:8080", Some("[::1]:8080"));
        check("unix:/dev/log", Some("unix:/dev/log"));
        check("unix:", None);
        check("127.0.0.1:0", None);
        check("127.0.0.1:99999", None);
        check("log.example", Some("10.0.0.1:514"));
        check("log.example:515", Some("10.0.0.1:515"));
    }

    #[test]
    fn a_line_arrives_with_its_header() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let addr = server.local_addr().expect("addr");
        let options =
            SyslogOptions::parse(&format!("server={addr},facility=user,nohostname")).expect("options");
        let syslog = Syslog::new(options, addr.into());
        assert!(Syslog::parse("server=[").is_err());
        assert!(syslog.header(3, 0).starts_with("<11>"));
        assert!(syslog.header(3, 0).ends_with(" nginx: "));
        syslog.send(b"hello").expect("send");
        let mut buf = [0; 200];
        let got = server.recv(&mut buf).expect("recv");
        let text = String::from_utf8_lossy(&buf[..got]);
        assert!(text.starts_with("<14>") && text.ends_with(": hello"), "{text}");
    }
}
