//! `fastcgi_pass` and its like: an address or a group, perhaps made of variables, without a path behind it.

use conf::{Error, Word};
use os::errlog::Level;

use super::Target;
use crate::conf::compile::Cx;
use crate::conf::{UpstreamId, UpstreamRef, UriPart, parse_upstream_url};
use crate::phases::Outcome;
use crate::request::Request;
use crate::variables::Template;

/// Where requests of a location go.
#[derive(Clone, Debug)]
pub struct Pass {
    to: To,
    schemes: Schemes,
    /// What the scheme of a fixed address says.
    security: Security,
}

#[derive(Clone, Debug)]
enum To {
    /// An address or a group that is known at load.
    Fixed(UpstreamId),
    /// One that variables name, perhaps with a scheme.
    Variable(Template),
}

/// What may stand in front of an address, in any case, and what it means; without one, requests are in clear text.
pub type Schemes = &'static [(&'static str, Security)];

/// Whether requests go over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// They are in clear text.
    Plain,
    /// They go over TLS.
    Tls,
}

impl Pass {
    /// Compiles `address`, which `word` is about.
    ///
    /// # Errors
    /// nginx's words for addresses that cannot be taken apart, and those of [`Template::compile`].
    pub fn compile(cx: &mut Cx<'_>, word: &Word, address: &[u8], schemes: Schemes) -> Result<Self, Error> {
        if Template::has_variables(address) {
            let to = To::Variable(Template::compile_bytes(cx, word, address)?);
            return Ok(Self { to, schemes, security: Security::Plain });
        }
        let (security, address) = split_scheme(address, schemes);
        let url = parse_upstream_url(address, UriPart::Refused).map_err(|why| {
            Error::at(word, format!("{why} in upstream \"{}\"", String::from_utf8_lossy(address)))
        })?;
        let reference = UpstreamRef { host: url.host_text(), port: url.port, default_port: None };
        Ok(Self { to: To::Fixed(cx.upstreams.refer(reference, word)), schemes, security })
    }

    /// The upstream, where it is known at load.
    #[must_use]
    pub fn known(&self) -> Option<UpstreamId> {
        match self.to {
            To::Fixed(id) => Some(id),
            To::Variable(_) => None,
        }
    }

    /// Whether requests go over TLS, or may.
    #[must_use]
    pub fn may_need_tls(&self) -> bool {
        match self.to {
            To::Fixed(_) => self.security == Security::Tls,
            To::Variable(_) => self.schemes.iter().any(|(_, security)| *security == Security::Tls),
        }
    }

    /// Whether this request goes over TLS.
    #[must_use]
    pub fn security(&self, r: &Request) -> Security {
        match &self.to {
            To::Variable(template) if self.may_need_tls() => split_scheme(&template.value(r), self.schemes).0,
            _ => self.security,
        }
    }

    /// Where this request goes.
    ///
    /// # Errors
    /// 500 where variables gave no address; the error log has nginx's words for it.
    pub fn target(&self, r: &Request) -> Result<Target, Outcome> {
        let template = match &self.to {
            To::Fixed(id) => return Ok(Target::Known(*id)),
            To::Variable(template) => template,
        };
        let text = template.value(r);
        let (_, address) = split_scheme(&text, self.schemes);
        match parse_upstream_url(address, UriPart::Refused) {
            Ok(url) => Ok(Target::Host { host: url.host_text(), port: url.port, default_port: None }),
            Err(why) => {
                let shown = String::from_utf8_lossy(address).into_owned();
                r.log(Level::Error, format_args!("{why} in upstream \"{shown}\""));
                Err(Outcome::Status(500))
            }
        }
    }
}

/// What the scheme says, and the address behind it.
#[must_use]
pub fn split_scheme(text: &[u8], schemes: Schemes) -> (Security, &[u8]) {
    for (scheme, security) in schemes {
        if let Some((start, address)) = text.split_at_checked(scheme.len())
            && start.eq_ignore_ascii_case(scheme.as_bytes())
        {
            return (*security, address);
        }
    }
    (Security::Plain, text)
}

/// Appends how the error log names a peer, without a path.
pub fn push_peer_url(scheme: &str, peer: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(peer.as_bytes());
    if peer.starts_with("unix:") {
        out.push(b':');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_say_whether_tls_is_spoken() {
        const SCHEMES: Schemes = &[("grpc://", Security::Plain), ("grpcs://", Security::Tls)];
        let check = |text: &str, security, address: &str| {
            assert_eq!(split_scheme(text.as_bytes(), SCHEMES), (security, address.as_bytes()), "{text}");
        };
        check("grpc://a:1", Security::Plain, "a:1");
        check("GRPCS://a", Security::Tls, "a");
        check("a:1", Security::Plain, "a:1");
        check("grpc:/", Security::Plain, "grpc:/");
        assert_eq!(split_scheme(b"grpcs://a", &[]), (Security::Plain, &b"grpcs://a"[..]));
    }
}
