//! `ssl_ciphers` in OpenSSL's language (`ssl_create_cipher_list`), and OpenSSL's names of what rustls has.
//!
//! A list selects among all that OpenSSL knows; what rustls lacks falls away afterwards and is told to the operator.

use rustls::{CipherSuite, SupportedCipherSuite};

use super::cipher_table::{Known, TABLE};

/// OpenSSL's names of the ciphers of TLS 1.3.
const TLS13: [(u16, &str); 5] = [
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1304, "TLS_AES_128_CCM_SHA256"),
    (0x1305, "TLS_AES_128_CCM_8_SHA256"),
];

/// Why a list is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// Nothing in it names a cipher.
    #[error("SSL: error:0A0000B9:SSL routines::no cipher match")]
    NoMatch,
    /// An operator that there is not.
    #[error("SSL: error:0A000118:SSL routines::invalid command")]
    InvalidCommand,
}

/// The ciphers of a configuration, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CipherList {
    /// Those for TLS 1.2 that rustls has.
    tls12: Vec<u16>,
    /// Those for TLS 1.3; none: all, in OpenSSL's order.
    tls13: Option<Vec<u16>>,
    /// Names of those that rustls lacks.
    lacking: Vec<&'static str>,
}

impl CipherList {
    /// Reads a list such as `HIGH:!aNULL:!MD5`.
    ///
    /// # Errors
    /// [`CipherError`], as OpenSSL says it.
    pub fn parse(text: &str) -> Result<Self, CipherError> {
        let mut list = Selection::default();
        for word in text.split([':', ',', ';', ' ']).filter(|word| !word.is_empty()) {
            list.apply(word)?;
        }
        if list.active.is_empty() {
            return Err(CipherError::NoMatch);
        }
        let (has, lacks): (Vec<&Known>, Vec<&Known>) =
            list.active.into_iter().map(|at| &TABLE[at]).partition(|cipher| suite(cipher.number).is_some());
        Ok(Self {
            tls12: has.iter().map(|cipher| cipher.number).collect(),
            tls13: None,
            lacking: lacks.iter().map(|cipher| cipher.name).collect(),
        })
    }

    /// Reads the names of `ssl_conf_command Ciphersuites`.
    ///
    /// # Errors
    /// [`CipherError::NoMatch`] for a name that is none.
    pub fn set_tls13(&mut self, text: &str) -> Result<(), CipherError> {
        let mut numbers = Vec::new();
        for word in text.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
            let known = TLS13.iter().find(|(_, name)| *name == word).ok_or(CipherError::NoMatch)?;
            if suite(known.0).is_some() {
                numbers.push(known.0);
            }
        }
        self.tls13 = Some(numbers);
        Ok(())
    }

    /// This list with the ciphers for TLS 1.3 of another.
    #[must_use]
    pub fn with_tls13_of(mut self, other: &Self) -> Self {
        self.tls13.clone_from(&other.tls13);
        self
    }

    /// Whether there is nothing for TLS 1.2 in it that rustls has.
    #[must_use]
    pub fn lacks_tls12(&self) -> bool {
        self.tls12.is_empty()
    }

    /// What the list names and rustls lacks.
    #[must_use]
    pub fn lacking(&self) -> &[&'static str] {
        &self.lacking
    }

    /// rustls' suites, best first.
    pub(super) fn suites(&self) -> Vec<SupportedCipherSuite> {
        let default = [0x1302, 0x1303, 0x1301];
        let tls13 = self.tls13.as_deref().unwrap_or(&default);
        tls13.iter().chain(&self.tls12).filter_map(|number| suite(*number)).collect()
    }
}

/// What was selected so far, as places in the table.
#[derive(Default)]
struct Selection {
    active: Vec<usize>,
    killed: Vec<usize>,
}

impl Selection {
    fn apply(&mut self, word: &str) -> Result<(), CipherError> {
        if let Some(command) = word.strip_prefix('@') {
            return match command {
                "STRENGTH" => {
                    self.active.sort_by_key(|at| std::cmp::Reverse(TABLE[*at].bits));
                    Ok(())
                }
                level if level.starts_with("SECLEVEL=") => Ok(()),
                _ => Err(CipherError::InvalidCommand),
            };
        }
        let (operator, word) = match word.as_bytes().first() {
            Some(sign @ (b'!' | b'-' | b'+')) => (*sign, word.get(1..).unwrap_or_default()),
            _ => (b' ', word),
        };
        let places = (0..TABLE.len()).filter(|at| matches(&TABLE[*at], word));
        match operator {
            b'!' => {
                let gone: Vec<usize> = places.collect();
                self.active.retain(|at| !gone.contains(at));
                self.killed.extend(gone);
            }
            b'-' => {
                let gone: Vec<usize> = places.collect();
                self.active.retain(|at| !gone.contains(at));
            }
            b'+' => {
                let moved: Vec<usize> = places.collect();
                let (back, front): (Vec<usize>, Vec<usize>) =
                    self.active.iter().partition(|at| moved.contains(at));
                self.active = front;
                self.active.extend(back);
            }
            _ => {
                let new: Vec<usize> =
                    places.filter(|at| !self.active.contains(at) && !self.killed.contains(at)).collect();
                self.active.extend(new);
            }
        }
        Ok(())
    }
}

/// Whether a word selects a cipher: its name, or words that must all fit, joined by `+`.
fn matches(cipher: &Known, word: &str) -> bool {
    if cipher.name == word {
        return true;
    }
    word.split('+').all(|part| has_word(cipher, part))
}

fn has_word(cipher: &Known, word: &str) -> bool {
    let has = |tag: &str| cipher.words.split(' ').any(|own| own == tag);
    match word {
        "ALL" => !has("eNULL"),
        "COMPLEMENTOFALL" | "NULL" => has("eNULL"),
        "COMPLEMENTOFDEFAULT" => !has("DEFAULT") && !has("eNULL"),
        "ECDHE" | "EECDH" => has("kECDHE") && !has("aNULL"),
        "kEECDH" | "ECDH" => has("kECDHE"),
        "AECDH" => has("kECDHE") && has("aNULL"),
        "DHE" | "EDH" => has("kDHE") && !has("aNULL"),
        "kEDH" | "DH" => has("kDHE"),
        "ADH" => has("kDHE") && has("aNULL"),
        "RSA" => has("kRSA") && has("aRSA"),
        "ECDSA" => has("aECDSA"),
        "DSS" => has("aDSS"),
        "SRP" => has("kSRP"),
        "PSK" => has("kPSK") || has("kRSAPSK") || has("kDHEPSK") || has("kECDHEPSK"),
        "SHA" => has("SHA1"),
        "CBC" => !["AESGCM", "AESCCM", "CHACHA20", "ARIAGCM", "eNULL"].iter().any(|tag| has(tag)),
        "TLSv1.0" => has("TLSv1"),
        word => cipher.name == word || has(word),
    }
}

fn suite(number: u16) -> Option<SupportedCipherSuite> {
    let all = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
    all.iter().find(|suite| u16::from(suite.suite()) == number).copied()
}

/// OpenSSL's name of a cipher by its number on the wire.
#[must_use]
pub fn name_of_cipher(number: u16) -> Option<&'static str> {
    TLS13
        .iter()
        .find(|(known, _)| *known == number)
        .map(|(_, name)| *name)
        .or_else(|| TABLE.iter().find(|cipher| cipher.number == number).map(|cipher| cipher.name))
}

pub(super) fn openssl_name(suite: CipherSuite) -> Option<&'static str> {
    name_of_cipher(u16::from(suite))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_openssl_reads_them() {
        let check = |text: &str, expected: Result<&[&str], CipherError>| {
            let list = CipherList::parse(text);
            let names = list.map(|list| {
                list.tls12.iter().filter_map(|number| name_of_cipher(*number)).collect::<Vec<_>>()
            });
            assert_eq!(names.as_deref().map_err(|error| *error), expected, "{text}");
        };
        let all: &[&str] = &[
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
        ];
        check("HIGH:!aNULL:!MD5", Ok(all));
        check("DEFAULT", Ok(all));
        check("ALL", Ok(all));
        check("ECDHE+AESGCM:!ECDSA", Ok(&["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]));
        check(
            "EECDH+CHACHA20 EECDH+AES128:EECDH+AES256:!SHA1:!aECDSA",
            Ok(&[
                "ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES256-GCM-SHA384",
            ]),
        );
        check(
            "AESGCM:+AES256:!ECDSA:!kRSA",
            Ok(&["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]),
        );
        check(
            "AES128+AESGCM:AESGCM:@STRENGTH:!aECDSA",
            Ok(&["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]),
        );
        check(
            "ECDH+AESGCM:DH+AESGCM:ECDH+AES256:RSA+3DES:!aNULL:!MD5:!DSS:!ECDSA",
            Ok(&["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]),
        );
        check("ECDHE-RSA-AES128-GCM-SHA256", Ok(&["ECDHE-RSA-AES128-GCM-SHA256"]));
        check("ECDHE+aRSA+AES256:!CBC", Ok(&["ECDHE-RSA-AES256-GCM-SHA384"]));
        check("AES128-SHA", Ok(&[]));
        check("unknown:ECDHE-RSA-AES128-GCM-SHA256", Ok(&["ECDHE-RSA-AES128-GCM-SHA256"]));
        check("unknown", Err(CipherError::NoMatch));
        check("ALL:!ALL", Err(CipherError::NoMatch));
        check("@WEAK", Err(CipherError::InvalidCommand));
    }

    #[test]
    fn what_rustls_lacks_is_known_by_name() {
        let list = CipherList::parse("ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-SHA").expect("a list");
        assert_eq!(list.lacking(), ["DHE-RSA-AES128-SHA"]);
        assert!(CipherList::parse("kRSA").expect("a list").lacks_tls12());
    }
}
