//! `ssl_ecdh_curve`: OpenSSL's names of groups for the key exchange.
//!
//! `auto` offers a post-quantum hybrid first, as OpenSSL does since 3.5.

use rustls::NamedGroup;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group;

use super::p521::SECP521R1;

/// Names, numbers, and what rustls has for them. The first name of a number is the one that variables show.
const KNOWN: [(&str, u16, Option<&'static dyn SupportedKxGroup>); 22] = [
    ("X25519MLKEM768", 0x11ec, Some(kx_group::X25519MLKEM768)),
    ("SecP256r1MLKEM768", 0x11eb, Some(kx_group::SECP256R1MLKEM768)),
    ("X25519", 0x001d, Some(kx_group::X25519)),
    ("prime256v1", 0x0017, Some(kx_group::SECP256R1)),
    ("P-256", 0x0017, Some(kx_group::SECP256R1)),
    ("secp256r1", 0x0017, Some(kx_group::SECP256R1)),
    ("secp384r1", 0x0018, Some(kx_group::SECP384R1)),
    ("P-384", 0x0018, Some(kx_group::SECP384R1)),
    ("secp521r1", 0x0019, Some(SECP521R1)),
    ("P-521", 0x0019, Some(SECP521R1)),
    ("X448", 0x001e, None),
    ("SecP384r1MLKEM1024", 0x11ed, None),
    ("secp224r1", 0x0015, None),
    ("P-224", 0x0015, None),
    ("brainpoolP256r1", 0x001a, None),
    ("brainpoolP384r1", 0x001b, None),
    ("brainpoolP512r1", 0x001c, None),
    ("ffdhe2048", 0x0100, None),
    ("ffdhe3072", 0x0101, None),
    ("ffdhe4096", 0x0102, None),
    ("ffdhe6144", 0x0103, None),
    ("ffdhe8192", 0x0104, None),
];

/// The groups of a configuration, best first.
#[derive(Clone, Default)]
pub struct CurveList {
    groups: Vec<&'static dyn SupportedKxGroup>,
    lacking: Vec<&'static str>,
}

impl CurveList {
    /// Reads names parted by colons, or `auto`; `None` when one is no name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "auto" {
            let groups = vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
                SECP521R1,
            ];
            return Some(Self { groups, lacking: Vec::new() });
        }
        let mut list = Self::default();
        for word in text.split(':') {
            // A name with a question mark is left away where it is unknown.
            let (word, may_lack) = word.strip_prefix('?').map_or((word, false), |word| (word, true));
            match KNOWN.iter().find(|(name, ..)| name.eq_ignore_ascii_case(word)) {
                Some((_, _, Some(group))) => list.groups.push(*group),
                Some((name, _, None)) => list.lacking.push(name),
                None if may_lack => {}
                None => return None,
            }
        }
        Some(list)
    }

    /// Whether rustls has none of them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Names that rustls has nothing for.
    #[must_use]
    pub fn lacking(&self) -> &[&'static str] {
        &self.lacking
    }

    pub(super) fn groups(&self) -> Vec<&'static dyn SupportedKxGroup> {
        self.groups.clone()
    }
}

/// OpenSSL's name of a group by its number on the wire.
#[must_use]
pub fn name_of_curve(number: u16) -> Option<&'static str> {
    KNOWN.iter().find(|(_, known, _)| *known == number).map(|(name, ..)| *name)
}

pub(super) fn openssl_name(group: NamedGroup) -> Option<&'static str> {
    name_of_curve(u16::from(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_openssls() {
        let check = |text: &str, expected: Option<(usize, &[&str])>| {
            let list = CurveList::parse(text);
            let found = list.as_ref().map(|list| (list.groups.len(), list.lacking()));
            assert_eq!(found, expected, "{text}");
        };
        check("auto", Some((5, &[])));
        check("X25519:prime256v1", Some((2, &[])));
        check("secp384r1:P-521", Some((2, &[])));
        check("secp384r1:X448", Some((1, &["X448"])));
        check("X25519MLKEM768:?curve5:x25519", Some((2, &[])));
        check("curve5", None);
        check("", None);
        assert_eq!(name_of_curve(0x17), Some("prime256v1"));
        assert_eq!(name_of_curve(0x1d), Some("X25519"));
        assert_eq!(name_of_curve(1), None);
    }
}
