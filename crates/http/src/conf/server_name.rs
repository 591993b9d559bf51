//! `server_name` and the choice of a server by the name that a request asks for (`ngx_http_find_virtual_server`).
//!
//! Order: exact name, longest wildcard at the front, longest wildcard at the end, first regular expression.

use std::collections::HashMap;

use conf::{Error, Word};

use super::ServerId;
use super::compile::Cx;
use crate::regex::{Case, Regex, RegexList};

/// One name of a server, lower-cased.
#[derive(Clone)]
pub enum ServerName {
    /// `example.com`, or the empty name.
    Exact(Box<[u8]>),
    /// `*.example.com` (kept as `.example.com`).
    Leading(Box<[u8]>),
    /// `.example.com`: the name itself and all below it.
    Both(Box<[u8]>),
    /// `example.*` (kept as `example.`).
    Trailing(Box<[u8]>),
    /// `~^(?<user>.+)\.example\.com$`.
    Regex(Regex),
    /// Something that is neither, such as `a..b`; nginx minds only where a name has to choose between servers.
    Impossible(Box<[u8]>),
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
        let name: Box<[u8]> = if text == b"$hostname" {
            os::process::hostname().into_bytes().to_ascii_lowercase().into()
        } else {
            text.to_ascii_lowercase().into()
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
        let has_empty_label = name.windows(2).any(|pair| pair == b"..");
        let read = match &*name {
            [b'*', rest @ ..] if rest.starts_with(b".") && rest.len() > 1 => Self::Leading(rest.into()),
            [b'.', _, ..] => Self::Both(name.clone()),
            [rest @ .., b'*'] if rest.ends_with(b".") && rest.len() > 1 => Self::Trailing(rest.into()),
            _ => Self::Exact(name.clone()),
        };
        let (Self::Leading(inner) | Self::Both(inner) | Self::Trailing(inner) | Self::Exact(inner)) = &read
        else {
            return Ok(read);
        };
        if inner.contains(&b'*') || has_empty_label {
            return Ok(Self::Impossible(name));
        }
        Ok(read)
    }

    /// The name as `$server_name` shows it.
    #[must_use]
    pub fn text(&self) -> Box<[u8]> {
        match self {
            Self::Exact(name) | Self::Impossible(name) => name.clone(),
            // `.example.com` is shown without its dot.
            Self::Both(name) => name[1..].into(),
            Self::Leading(name) => [b"*", &**name].concat().into(),
            Self::Trailing(name) => [name, &b"*"[..]].concat().into(),
            Self::Regex(regex) => [b"~", regex.text()].concat().into(),
        }
    }
}

/// The servers of one address, by name.
#[derive(Default)]
pub struct VirtualHosts {
    exact: HashMap<Box<[u8]>, ServerId>,
    /// By the part behind the asterisk, with its dot.
    leading: HashMap<Box<[u8]>, ServerId>,
    /// By the part before the asterisk, with its dot.
    trailing: HashMap<Box<[u8]>, ServerId>,
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
    /// Adds a name; `Err` names one that is there already and keeps its server.
    pub fn add(&mut self, name: &ServerName, server: ServerId) -> Result<(), Box<[u8]>> {
        self.has_several |= *self.first.get_or_insert(server) != server;
        let taken = match name {
            ServerName::Exact(text) => insert(&mut self.exact, text, server),
            ServerName::Leading(text) => insert(&mut self.leading, text, server),
            ServerName::Both(text) => {
                let below = insert(&mut self.leading, text, server);
                below | insert(&mut self.exact, &text[1..], server)
            }
            ServerName::Trailing(text) => insert(&mut self.trailing, text, server),
            ServerName::Regex(regex) => {
                self.regexes.push(regex.clone(), server);
                false
            }
            ServerName::Impossible(_) => false,
        };
        if taken { Err(name.text()) } else { Ok(()) }
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
        if let Some(server) = self.exact.get(host) {
            return Some(Found::Server(*server));
        }
        if host.is_empty() {
            return None;
        }
        let dots = || host.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        if !self.leading.is_empty()
            && let Some(server) = dots().filter(|at| *at > 0).find_map(|at| self.leading.get(&host[at..]))
        {
            return Some(Found::Server(*server));
        }
        if !self.trailing.is_empty() {
            let mut longest = memchr::memrchr_iter(b'.', host).filter(|at| at + 1 < host.len());
            if let Some(server) = longest.find_map(|at| self.trailing.get(host.get(..=at)?)) {
                return Some(Found::Server(*server));
            }
        }
        let (regex, server) = self.regexes.find(host, |regex| regex.is_match(host))?;
        Some(Found::Regex(regex, *server))
    }
}

fn insert(map: &mut HashMap<Box<[u8]>, ServerId>, name: &[u8], server: ServerId) -> bool {
    if map.contains_key(name) {
        return true;
    }
    map.insert(name.into(), server);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tried_in_nginx_order() {
        let mut hosts = VirtualHosts::default();
        let names = [
            ServerName::Exact(b"a.example.com"[..].into()),
            ServerName::Leading(b".example.com"[..].into()),
            ServerName::Leading(b".b.example.com"[..].into()),
            ServerName::Trailing(b"mail."[..].into()),
            ServerName::Both(b".org"[..].into()),
            ServerName::Exact(b""[..].into()),
        ];
        for (index, name) in names.iter().enumerate() {
            hosts.add(name, ServerId(u32::try_from(index).expect("few"))).expect("distinct");
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
        check("mail.", None);
    }
}
