//! Values that `ssl_*`, `proxy_ssl_*` and their kin write alike.

use std::sync::Arc;

use conf::{Directive, Error, Level, Order, Word};
use net::tls::{CipherList, CurveList, Protocols};

use crate::conf::Lines;
use crate::conf::compile::Cx;

/// Most passwords of a file, and bytes of it.
const LONGEST_PASSWORDS: usize = 64 << 10;

const PROTOCOLS: [(&str, u32); 6] =
    [("SSLv2", 1), ("SSLv3", 2), ("TLSv1", 4), ("TLSv1.1", 8), ("TLSv1.2", TLS12), ("TLSv1.3", TLS13)];
const TLS12: u32 = 16;
const TLS13: u32 = 32;

/// Reads versions. Those that cannot be had are warned of where others are left.
///
/// # Errors
/// `invalid value`, and that nothing is left.
pub fn read_protocols(cx: &mut Cx<'_>, d: &Directive) -> Result<Protocols, Error> {
    let bits = cx.bits(d, &PROTOCOLS)?;
    let mut chosen = Protocols::NONE;
    if bits & TLS12 != 0 {
        chosen = chosen.with(Protocols::TLS12);
    }
    if bits & TLS13 != 0 {
        chosen = chosen.with(Protocols::TLS13);
    }
    let old = PROTOCOLS.iter().filter(|(_, bit)| bits & bit != 0 && *bit < TLS12).map(|(name, _)| *name);
    let old = old.collect::<Vec<_>>().join(" ");
    let (word, name) = (d.arg(0)?, d.name.as_str());
    if chosen == Protocols::NONE {
        let sentence = format!("\"{old}\" in \"{name}\" cannot be had here, only TLSv1.2 and TLSv1.3");
        return Err(Error::at(word, sentence));
    }
    if !old.is_empty() {
        warn(cx, word, &format!("\"{old}\" in \"{name}\" cannot be had here, ignored"));
    }
    Ok(chosen)
}

/// Reads ciphers in OpenSSL's language.
///
/// # Errors
/// As OpenSSL says it.
pub fn read_ciphers(cx: &mut Cx<'_>, d: &Directive) -> Result<CipherList, Error> {
    let word = d.arg(0)?;
    let text = word.as_str();
    let list = CipherList::parse(&text).map_err(|error| {
        Error::bare(format!("SSL_CTX_set_cipher_list(\"{text}\") failed ({error})"))
            .found(Order::END_OF_BLOCK)
    })?;
    if list.lacks_tls12() {
        let name = d.name.as_str();
        let sentence = format!("no cipher of \"{name}\" for TLSv1.2 can be had here, only TLSv1.3 is left");
        warn(cx, word, &sentence);
    }
    Ok(list)
}

/// Reads groups for the key exchange.
///
/// # Errors
/// A name of nothing, or that nothing is left.
pub fn read_curves(cx: &mut Cx<'_>, d: &Directive) -> Result<CurveList, Error> {
    let word = d.arg(0)?;
    let text = word.as_str();
    let list = CurveList::parse(&text).ok_or_else(|| {
        Error::bare(format!("SSL_CTX_set1_curves_list(\"{text}\") failed")).found(Order::END_OF_BLOCK)
    })?;
    let (lacking, name) = (list.lacking().join(":"), d.name.as_str());
    if list.is_empty() {
        return Err(Error::at(word, format!("\"{lacking}\" in \"{name}\" cannot be had here")));
    }
    if !lacking.is_empty() {
        warn(cx, word, &format!("\"{lacking}\" in \"{name}\" cannot be had here, ignored"));
    }
    Ok(list)
}

/// Reads a file of passwords, one a line (`ngx_ssl_read_password_file`).
///
/// # Errors
/// The error of reading it.
pub fn read_passwords(cx: &mut Cx<'_>, word: &Word) -> Result<Arc<Vec<Vec<u8>>>, Error> {
    let path = cx.conf_path(&word.bytes);
    let text = cx.resources.read_object(&path).map_err(|error| {
        Error::at(word, format!("open() \"{}\" failed {}", path.display(), os::errlog::Errno(&error)))
    })?;
    let text = text.get(..text.len().min(LONGEST_PASSWORDS)).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(Arc::new(lines.map(<[u8]>::to_vec).collect()))
}

/// The lines of a `*_conf_command`: what they say is done when all other settings are known, as in nginx.
#[derive(Clone, Debug, Default)]
pub struct ConfCommands {
    lines: Lines<(String, String)>,
}

impl ConfCommands {
    /// For [`crate::module::Settings::enter`].
    pub fn enter(&mut self) {
        self.lines.enter();
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a line.
    ///
    /// # Errors
    /// None beyond a missing argument.
    pub fn add(&mut self, d: &Directive) -> Result<(), Error> {
        self.lines.push((d.arg(0)?.as_str().into_owned(), d.arg(1)?.as_str().into_owned()));
        Ok(())
    }

    /// Does what the lines say.
    ///
    /// # Errors
    /// As [`ConfCommand::apply`].
    pub fn apply(&self, mut to: ConfCommand<'_>) -> Result<(), Error> {
        self.lines.iter().try_for_each(|(command, value)| to.apply(command, value))
    }
}

/// What a `*_conf_command` may change.
pub struct ConfCommand<'a> {
    /// Ciphers.
    pub ciphers: &'a mut CipherList,
    /// Groups for the key exchange, where they can be set.
    pub curves: Option<&'a mut CurveList>,
    /// Versions.
    pub protocols: &'a mut Protocols,
    /// Whose order of ciphers counts, where that can be set.
    pub prefers_own_order: Option<&'a mut bool>,
    /// Whether ChaCha20-Poly1305 comes first for clients that put it first, where that can be set.
    pub prefers_chacha: Option<&'a mut bool>,
    /// Whether tickets are made, where that can be set.
    pub tickets: Option<&'a mut bool>,
    /// Files in the place of the certificate and its key.
    pub identity: &'a mut [Option<Box<[u8]>>; 2],
}

impl ConfCommand<'_> {
    /// Does what a command of OpenSSL's `SSL_CONF_cmd` says.
    ///
    /// # Errors
    /// A command, or a value, that has no meaning here.
    pub fn apply(&mut self, command: &str, text: &str) -> Result<(), Error> {
        let refuse = || Error::bare(format!("SSL_CONF_cmd(\"{command}\", \"{text}\") failed"));
        match &*command.to_ascii_lowercase() {
            "cipherstring" => {
                let tls13 = std::mem::take(self.ciphers);
                *self.ciphers = CipherList::parse(text).map_err(|_| refuse())?.with_tls13_of(&tls13);
            }
            "certificate" => self.identity[0] = Some(text.as_bytes().into()),
            "privatekey" => self.identity[1] = Some(text.as_bytes().into()),
            "ciphersuites" => self.ciphers.set_tls13(text).map_err(|_| refuse())?,
            "curves" | "groups" => {
                let curves = self.curves.as_deref_mut().ok_or_else(refuse)?;
                *curves = CurveList::parse(text).filter(|list| !list.is_empty()).ok_or_else(refuse)?;
            }
            "minprotocol" | "maxprotocol" => {
                let is_low = command.eq_ignore_ascii_case("MinProtocol");
                let kept = match (text, is_low) {
                    ("TLSv1.3", true) => Protocols::TLS13,
                    ("TLSv1.2", false) => Protocols::TLS12,
                    ("TLSv1.3", false)
                    | ("TLSv1" | "TLSv1.1" | "TLSv1.2" | "None", true)
                    | ("None", false) => {
                        return Ok(());
                    }
                    _ => return Err(refuse()),
                };
                *self.protocols = self.protocols.within(kept);
                if *self.protocols == Protocols::NONE {
                    return Err(refuse());
                }
            }
            "protocol" => {
                for part in text.split(',').map(str::trim) {
                    *self.protocols = match part {
                        "-TLSv1.3" => self.protocols.within(Protocols::TLS12),
                        "-TLSv1.2" => self.protocols.within(Protocols::TLS13),
                        "TLSv1.2" | "+TLSv1.2" => self.protocols.with(Protocols::TLS12),
                        "TLSv1.3" | "+TLSv1.3" => self.protocols.with(Protocols::TLS13),
                        "ALL" | "-SSLv3" | "-TLSv1" | "-TLSv1.1" => *self.protocols,
                        _ => return Err(refuse()),
                    };
                }
            }
            "options" => {
                for part in text.split(',').map(str::trim) {
                    match (part, self.prefers_own_order.as_deref_mut()) {
                        ("ServerPreference", Some(own)) => *own = true,
                        ("-ServerPreference", Some(own)) => *own = false,
                        ("PrioritizeChaCha" | "-PrioritizeChaCha", _) if self.prefers_chacha.is_some() => {
                            if let Some(chacha) = self.prefers_chacha.as_deref_mut() {
                                *chacha = part == "PrioritizeChaCha";
                            }
                        }
                        ("SessionTicket" | "-SessionTicket", _) if self.tickets.is_some() => {
                            if let Some(tickets) = self.tickets.as_deref_mut() {
                                *tickets = part == "SessionTicket";
                            }
                        }
                        // What rustls does anyway, or what makes no difference to what is agreed on.
                        (
                            "NoRenegotiation"
                            | "NoResumptionOnRenegotiation"
                            | "ExtendedMasterSecret"
                            | "EncryptThenMac"
                            | "-EncryptThenMac"
                            | "-Compression"
                            | "MiddleboxCompat"
                            | "DHSingle"
                            | "ECDHSingle"
                            | "EmptyFragments"
                            | "-EmptyFragments"
                            | "KTLS"
                            | "-KTLS"
                            | "UnsafeLegacyRenegotiation"
                            | "-UnsafeLegacyRenegotiation"
                            | "UnsafeLegacyServerConnect"
                            | "-UnsafeLegacyServerConnect",
                            _,
                        ) => {}
                        _ => return Err(refuse()),
                    }
                }
            }
            _ => return Err(refuse()),
        }
        Ok(())
    }
}

fn warn(cx: &mut Cx<'_>, word: &Word, sentence: &str) {
    cx.notices.push(Error::at(word, sentence).with_level(Level::Warn));
}
