//! Passwords against the hashes of a user file (`ngx_crypt`, and crypt(3) behind it).
//!
//! As for C, a password ends at its first zero byte.

mod des;
mod md5;

use base::equal_in_constant_time;
use http::credentials::{decode_base64, encode_base64};
use sha_crypt::{PasswordHashRef, PasswordVerifier, ShaCrypt};
use sha1::{Digest, Sha1};
use yescrypt::Yescrypt;

/// The alphabet of crypt(3).
const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes of the longest password that crypt(3) takes.
const CRYPT_MAX: usize = 511;

/// What a password is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It fits the hash.
    Right,
    /// It does not.
    Wrong,
    /// The hash is of no known kind, or the password too long for it.
    Unusable,
}

impl From<bool> for Checked {
    fn from(fits: bool) -> Self {
        if fits { Self::Right } else { Self::Wrong }
    }
}

/// Whether checking a password against this hash takes so long that the event loop must not wait for it.
pub(super) fn is_slow(hash: &[u8]) -> bool {
    ![&b"{PLAIN}"[..], b"{SHA}", b"{SSHA}"].iter().any(|kind| hash.starts_with(kind))
}

/// Checks a password.
pub(super) fn check(password: &[u8], hash: &[u8]) -> Checked {
    let end = memchr::memchr(0, password).unwrap_or(password.len());
    let password = password.get(..end).unwrap_or_default();
    if let Some(plain) = hash.strip_prefix(b"{PLAIN}") {
        return equal_in_constant_time(password, plain).into();
    }
    if let Some(encoded) = hash.strip_prefix(b"{SHA}") {
        return equal_in_constant_time(&encode_base64(&Sha1::digest(password)), encoded).into();
    }
    if let Some(encoded) = hash.strip_prefix(b"{SSHA}") {
        return check_salted_sha1(password, encoded).into();
    }
    if hash.starts_with(b"$apr1$") {
        return equal_in_constant_time(&md5::crypt(password, b"$apr1$", hash), hash).into();
    }
    if password.len() > CRYPT_MAX { Checked::Unusable } else { check_crypt(password, hash) }
}

/// The salt lies behind the twenty bytes of SHA-1.
fn check_salted_sha1(password: &[u8], encoded: &[u8]) -> bool {
    let decoded = decode_base64(encoded).unwrap_or_default();
    let salt = decoded.get(20..).unwrap_or_default();
    let mut hash = Sha1::new();
    hash.update(password);
    hash.update(salt);
    let digest = hash.finalize();
    equal_in_constant_time(&encode_base64(&[&digest, salt].concat()), encoded)
}

/// What nginx leaves to the C library.
fn check_crypt(password: &[u8], hash: &[u8]) -> Checked {
    let Ok(text) = std::str::from_utf8(hash) else { return Checked::Unusable };
    match hash {
        [b'$', b'1', b'$', ..] => equal_in_constant_time(&md5::crypt(password, b"$1$", hash), hash).into(),
        [b'$', b'2', b'a' | b'b' | b'y', b'$', ..] => {
            bcrypt::verify(password, text).map_or(Checked::Unusable, Checked::from)
        }
        // A hash that lacks a part fits no password.
        [b'$', b'5' | b'6', b'$', ..] => PasswordHashRef::new(text)
            .is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok())
            .into(),
        [b'$', b'y', b'$', ..] => Yescrypt::default().verify_password(password, text).is_ok().into(),
        _ => match des::crypt(password, hash) {
            Some(own) => equal_in_constant_time(&own, hash).into(),
            None => Checked::Unusable,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_hashes() {
        let hashes = [
            "abNANd1rDfiNc",
            "$1$saltsalt$9xy1btjgzLYfb7hivXtC//",
            "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
            "$6$rounds=1000$saltsalt$LAV5VE5Y7w1d73x1mFNspYWUpazfmwv2SoepNXNKJ/otop/Zok96Hr8Q13LEv0DRY/x8v0/crpIjl8NJSAqXV/",
            "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
            "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
            "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
            "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0",
            "{PLAIN}secret",
            "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        ];
        for hash in hashes {
            assert_eq!(check(b"secret", hash.as_bytes()), Checked::Right, "{hash}");
            assert_eq!(check(b"secret\0more", hash.as_bytes()), Checked::Right, "{hash}");
            assert_eq!(check(b"Secret", hash.as_bytes()), Checked::Wrong, "{hash}");
            assert_eq!(check(b"", hash.as_bytes()), Checked::Wrong, "{hash}");
            assert_eq!(
                check(b"secret", &hash.as_bytes()[..hash.len() - 1]) == Checked::Right,
                false,
                "{hash}"
            );
        }
    }

    #[test]
    fn yescrypt_of_shadow_files() {
        // As mkpasswd writes it: parameters, salt and hash of full length.
        let hash = "$y$j9T$saltsalt$VuCHcCYYVuebTL.IxzSml3z./71e36sys.wEb95cM54";
        assert_eq!(check(b"secret", hash.as_bytes()), Checked::Right);
        assert_eq!(check(b"Secret", hash.as_bytes()), Checked::Wrong);
    }

    #[test]
    fn salted_sha1() {
        let check = |password: &str, hash: &str, expected| {
            assert_eq!(super::check(password.as_bytes(), hash.as_bytes()), expected, "{hash}");
        };
        check("password", "{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0", Checked::Right);
        check("Password", "{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0", Checked::Wrong);
        check("1", "{SSHA}_____wQadOA1e+/f+T+H3eCQQhRzYWx0", Checked::Wrong);
        check("1", "{SSHA}Zm9vCg==", Checked::Wrong);
        check("1", "{SSHA}", Checked::Wrong);
    }

    #[test]
    fn what_is_no_hash() {
        let check = |hash: &str, expected| {
            assert_eq!(super::check(b"secret", hash.as_bytes()), expected, "{hash}");
        };
        check("", Checked::Unusable);
        check("*", Checked::Unusable);
        check("!!", Checked::Unusable);
        check("$9$x$y", Checked::Unusable);
        check("$2b$05$", Checked::Unusable);
        check("$1$", Checked::Wrong);
        check("$5$", Checked::Wrong);
        check("$6$salt", Checked::Wrong);
        check("secret", Checked::Wrong);
        assert_eq!(super::check(&[b'a'; 512], b"abNANd1rDfiNc"), Checked::Unusable);
    }

    #[test]
    fn long_passwords_have_md5_too() {
        let long = b"a password of more than sixteen characters";
        let hash = md5::crypt(long, b"$1$", b"$1$abc$");
        assert_eq!(String::from_utf8_lossy(&hash), "$1$abc$hCpB0icaF0pFBQHjrmjEt0");
    }
}
