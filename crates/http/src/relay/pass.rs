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
pub enum Pass {
    /// An address or a group that is known at load.
    Fixed(UpstreamId),
    /// One that variables name.
    Variable(Template),
}

impl Pass {
    /// Compiles `address`, a part of `word`.
    ///
    /// # Errors
    /// nginx's words for addresses that cannot be taken apart, and those of [`Template::compile`].
    pub fn compile(cx: &mut Cx<'_>, word: &Word, address: &[u8]) -> Result<Self, Error> {
        if Template::has_variables(address) {
            return Ok(Self::Variable(Template::compile_bytes(cx, word, address)?));
        }
        let url = parse_upstream_url(address, UriPart::Refused).map_err(|why| {
            Error::at(word, format!("{why} in upstream \"{}\"", String::from_utf8_lossy(address)))
        })?;
        let reference = UpstreamRef { host: url.host_text(), port: url.port, default_port: None };
        Ok(Self::Fixed(cx.upstreams.refer(reference, word)))
    }

    /// The upstream, where it is known at load.
    #[must_use]
    pub fn known(&self) -> Option<UpstreamId> {
        match self {
            Self::Fixed(id) => Some(*id),
            Self::Variable(_) => None,
        }
    }

    /// Where this request goes; `address` cuts a scheme off what variables gave.
    ///
    /// # Errors
    /// 500 where variables gave no address; the error log has nginx's words for it.
    pub fn target(&self, r: &Request, address: impl Fn(&[u8]) -> &[u8]) -> Result<Target, Outcome> {
        let template = match self {
            Self::Fixed(id) => return Ok(Target::Known(*id)),
            Self::Variable(template) => template,
        };
        let text = template.value(r);
        let text = address(&text);
        match parse_upstream_url(text, UriPart::Refused) {
            Ok(url) => Ok(Target::Host { host: url.host_text(), port: url.port, default_port: None }),
            Err(why) => {
                let shown = String::from_utf8_lossy(text).into_owned();
                r.log(Level::Error, format_args!("{why} in upstream \"{shown}\""));
                Err(Outcome::Status(500))
            }
        }
    }
}

/// Appends how the error log names a peer of a protocol whose requests have no URI of their own.
pub fn push_peer_url(scheme: &str, peer: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(peer.as_bytes());
    if peer.starts_with("unix:") {
        out.push(b':');
    }
}
