//! `server_name` and the choice of a server by the name that a request asks for (`ngx_http_find_virtual_server`).
//!
//! Order: exact name, longest wildcard at the front, longest wildcard at the end, first regular expression.

use conf::{Bytes, Error, Word};

use super::ServerId;
use super::compile::Cx;
use crate::regex::{Case, Regex, RegexList};
use crate::texts::{KeyFault, Keys, Texts};

/// One name of a server.
#[derive(Clone)]
pub enum ServerName {
    /// `example.com`, `.example.com`, `*.example.com`, `example.*` or the empty name, in lower case; perhaps something
    /// that is none of these, which nginx minds only where a name has to choose between servers.
    Text(Bytes),
    /// `~^(?<user>.+)\.example\.com$`.
    Regex(Regex),
}

impl ServerName {
    /// Reads a name (`ngx_http_core_server_name`).
    ///
    /// # Errors
    /// `server name "…" is invalid` and what the regular expression says.
    pub fn read(cx: &mut Cx<'_>, word: &Word) -> Result<Self, Error> {
        let invalid = || Error::at(word, format!("server name \"{}\" is invalid", word.as_str()));
        let text = &*word.bytes;
        if let Some(pattern) = text.strip_prefix(b"~") {
            if pattern.is_empty() {
                return Err(Error::at(word, format!("empty regex in server name \"{}\"", word.as_str())));
            }
            // Names are compared in lower case, so a pattern with capitals is meant without regard to case.
            let case =
                if pattern.iter().any(u8::is_ascii_uppercase) { Case::Insensitive } else { Case::Sensitive };
            return Ok(Self::Regex(Regex::compile(cx, word, pattern, case)?));
        }
        let name = if text == b"$hostname" {
            os::process::hostname().into_bytes().to_ascii_lowercase().as_slice().into()
        } else {
            word.bytes.lowercase()
        };
        if name.contains(&b'/') {
            let sentence = format!("server name \"{}\" has suspicious symbols", word.as_str());
            cx.notices.push(Error::at(word, sentence).with_level(conf::Level::Warn));
        }
        match &*name {
            [b'*'] | [b'*', _] | [b'.'] => return Err(invalid()),
            [b'*', second, ..] if *second != b'.' => return Err(invalid()),
            _ => {}
        }
        Ok(Self::Text(name))
    }

    /// The name as `$server_name` shows it.
    #[must_use]
    pub fn text(&self) -> Box<[u8]> {
        match self {
            // `.example.com` is shown without its dot.
            Self::Text(name) => name.strip_prefix(b".").unwrap_or(name).into(),
            Self::Regex(regex) => [b"~", regex.text()].concat().into(),
        }
    }
}

/// The servers of one address, by name.
#[derive(Default)]
pub struct VirtualHosts {
    names: Texts<ServerId>,
    regexes: RegexList<ServerId>,
    /// The server of the first name, and whether another one has a name too.
    first: Option<ServerId>,
    has_several: bool,
}

/// Which server a name leads to.
pub enum Found<'a> {
    /// By its text.
    Server(ServerId),
    /// By a regular expression, whose captures are to be kept.
    Regex(&'a Regex, ServerId),
}

impl VirtualHosts {
    /// Adds a name.
    ///
    /// # Errors
    /// What is wrong with it; one that is there already keeps its server.
    pub fn add(&mut self, name: &ServerName, server: ServerId) -> Result<(), KeyFault> {
        self.has_several |= *self.first.get_or_insert(server) != server;
        match name {
            ServerName::Text(text) => self.names.add(text, server, Keys::Hostnames),
            ServerName::Regex(regex) => {
                self.regexes.push(regex.clone(), server);
                Ok(())
            }
        }
    }

    /// Called when all names are there.
    pub fn finish(&mut self) {
        self.regexes.finish();
    }

    /// Whether every name leads to the server that has the requests without a known name as well, and none has
    /// captures: there is nothing to look up.
    #[must_use]
    pub fn lead_only_to(&self, default: ServerId) -> bool {
        !self.has_several && self.regexes.is_empty() && self.first.is_none_or(|server| server == default)
    }

    /// The server of a lower-case name without port and trailing dot.
    #[must_use]
    pub fn find(&self, host: &[u8]) -> Option<Found<'_>> {
        if let Some(server) = self.names.find_lower(host) {
            return Some(Found::Server(*server));
        }
        if host.is_empty() {
            return None;
        }
        let (regex, server) = self.regexes.find(host, |regex| regex.is_match(host))?;
        Some(Found::Regex(regex, *server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tried_in_nginx_order() {
        let mut hosts = VirtualHosts::default();
        let names = ["a.example.com", "*.example.com", "*.b.example.com", "mail.*", ".org", ""];
        for (number, name) in (0..).zip(names) {
            hosts.add(&ServerName::Text(name.as_bytes().into()), ServerId(number)).expect("distinct");
        }
        let check = |host: &str, expected: Option<u32>| {
            let found = hosts.find(host.as_bytes()).map(|found| match found {
                Found::Server(id) | Found::Regex(_, id) => id.0,
            });
            assert_eq!(found, expected, "{host}");
        };
        check("a.example.com", Some(0));
        check("c.example.com", Some(1));
        check("x.c.example.com", Some(1));
        check("x.b.example.com", Some(2));
        check("b.example.com", Some(1));
        check("example.com", None);
        check("mail.com", Some(3));
        check("mail.x.y", Some(3));
        check("org", Some(4));
        check("www.org", Some(4));
        check("", Some(5));
    }
}
