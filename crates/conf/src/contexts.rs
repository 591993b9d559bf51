//! The blocks in which a directive may stand, as a set of bits.
//!
//! A block of one name counts as several contexts where nginx tells them apart: `server`, `if`, `upstream`.

use std::fmt;

/// A set of contexts; a single bit where a place in a file is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contexts(u32);

impl Contexts {
    /// No context at all.
    pub const NOWHERE: Self = Self(0);
    /// Outside of every block.
    pub const MAIN: Self = Self(1);
    /// `events`.
    pub const EVENTS: Self = Self(1 << 1);
    /// `http`.
    pub const HTTP: Self = Self(1 << 2);
    /// `server` in `http`.
    pub const SERVER: Self = Self(1 << 3);
    /// `location`.
    pub const LOCATION: Self = Self(1 << 4);
    /// `upstream` in `http`.
    pub const UPSTREAM: Self = Self(1 << 5);
    /// `if` in a `server`.
    pub const IF_SERVER: Self = Self(1 << 6);
    /// `if` in a `location`.
    pub const IF_LOCATION: Self = Self(1 << 7);
    /// `limit_except`.
    pub const LIMIT_EXCEPT: Self = Self(1 << 8);
    /// `stream`.
    pub const STREAM: Self = Self(1 << 9);
    /// `server` in `stream`.
    pub const STREAM_SERVER: Self = Self(1 << 10);
    /// `upstream` in `stream`.
    pub const STREAM_UPSTREAM: Self = Self(1 << 11);
    /// `mail`.
    pub const MAIL: Self = Self(1 << 12);
    /// `server` in `mail`.
    pub const MAIL_SERVER: Self = Self(1 << 13);
    /// `mgmt`.
    pub const MGMT: Self = Self(1 << 14);
    /// `match` in `http`: what a health check expects.
    pub const MATCH: Self = Self(1 << 15);
    /// `match` in `stream`.
    pub const STREAM_MATCH: Self = Self(1 << 16);
    /// `acme_issuer`.
    pub const ACME_ISSUER: Self = Self(1 << 17);
    /// `oidc_provider`.
    pub const OIDC_PROVIDER: Self = Self(1 << 18);
    /// `otel_exporter`.
    pub const OTEL_EXPORTER: Self = Self(1 << 19);
    /// `http`, `server`, `location`: where most settings of a request may stand.
    pub const HTTP_ALL: Self = Self::HTTP.or(Self::SERVER).or(Self::LOCATION);
    /// `http` and `server`.
    pub const HTTP_SERVER: Self = Self::HTTP.or(Self::SERVER);
    /// `stream` and its `server`.
    pub const STREAM_ALL: Self = Self::STREAM.or(Self::STREAM_SERVER);
    /// `mail` and its `server`.
    pub const MAIL_ALL: Self = Self::MAIL.or(Self::MAIL_SERVER);
    /// Every context.
    pub const ANY: Self = Self(u32::MAX);

    /// Both sets together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two sets share a context.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those of the set that belong to the same kind of traffic as `context`; the whole set if none does.
    #[must_use]
    pub(crate) const fn akin_to(self, context: Self) -> Self {
        let stream = Self::STREAM_ALL.or(Self::STREAM_UPSTREAM).or(Self::STREAM_MATCH).0;
        let mail = Self::MAIL_ALL.0;
        let family = if context.0 & Self::MAIN.0 != 0 {
            u32::MAX
        } else if context.0 & stream != 0 {
            stream
        } else if context.0 & mail != 0 {
            mail
        } else {
            !(stream | mail)
        };
        if self.0 & family == 0 { self } else { Self(self.0 & family) }
    }

    /// The names of the contexts, in the order in which blocks nest.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(context, _)| self.has(*context)).map(|(_, name)| *name)
    }
}

impl fmt::Display for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("any");
        }
        for (index, name) in self.names().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

const NAMES: [(Contexts, &str); 20] = [
    (Contexts::MAIN, "main"),
    (Contexts::EVENTS, "events"),
    (Contexts::HTTP, "http"),
    (Contexts::SERVER, "server"),
    (Contexts::LOCATION, "location"),
    (Contexts::IF_SERVER, "if in server"),
    (Contexts::IF_LOCATION, "if in location"),
    (Contexts::LIMIT_EXCEPT, "limit_except"),
    (Contexts::UPSTREAM, "upstream"),
    (Contexts::MATCH, "match"),
    (Contexts::ACME_ISSUER, "acme_issuer"),
    (Contexts::OIDC_PROVIDER, "oidc_provider"),
    (Contexts::OTEL_EXPORTER, "otel_exporter"),
    (Contexts::STREAM, "stream"),
    (Contexts::STREAM_SERVER, "server in stream"),
    (Contexts::STREAM_UPSTREAM, "upstream in stream"),
    (Contexts::STREAM_MATCH, "match in stream"),
    (Contexts::MAIL, "mail"),
    (Contexts::MAIL_SERVER, "server in mail"),
    (Contexts::MGMT, "mgmt"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_context_has_one_bit_and_a_name() {
        let mut all = 0;
        for (context, name) in NAMES {
            assert_eq!(context.0.count_ones(), 1, "{name}");
            assert_eq!(all & context.0, 0, "{name}");
            all |= context.0;
        }
        assert_eq!(all.count_ones(), 20);
    }

    #[test]
    fn sets_read_as_the_documentation_writes_them() {
        assert_eq!(
            Contexts::HTTP_ALL.or(Contexts::IF_LOCATION).to_string(),
            "http, server, location, if in location"
        );
        assert_eq!(Contexts::ANY.to_string(), "any");
        assert_eq!(Contexts::NOWHERE.to_string(), "");
    }
}
