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

/// Whether checking a password against this hash takes so long that the event loop must not wait for it.
pub(super) fn is_slow(hash: &[u8]) -> bool {
    ![&b"{PLAIN}"[..], b"{SHA}", b"{SSHA}"].iter().any(|kind| hash.starts_with(kind))
}

/// Whether a password fits a hash. A hash of no known kind fits none, as with today's C libraries.
pub(super) fn fits(password: &[u8], hash: &[u8]) -> bool {
    let end = memchr::memchr(0, password).unwrap_or(password.len());
    let password = password.get(..end).unwrap_or_default();
    if let Some(plain) = hash.strip_prefix(b"{PLAIN}") {
        return equal_in_constant_time(password, plain);
    }
    if let Some(encoded) = hash.strip_prefix(b"{SHA}") {
        return equal_in_constant_time(&encode_base64(&Sha1::digest(password)), encoded);
    }
    if let Some(encoded) = hash.strip_prefix(b"{SSHA}") {
        return fits_salted_sha1(password, encoded);
    }
    if hash.starts_with(b"$apr1$") {
        return equal_in_constant_time(&md5::crypt(password, b"$apr1$", hash), hash);
    }
    password.len() <= CRYPT_MAX && fits_crypt(password, hash)
}

/// The salt lies behind the twenty bytes of SHA-1.
fn fits_salted_sha1(password: &[u8], encoded: &[u8]) -> bool {
    let decoded = decode_base64(encoded).unwrap_or_default();
    let salt = decoded.get(20..).unwrap_or_default();
    let mut hash = Sha1::new();
    hash.update(password);
    hash.update(salt);
    let digest = hash.finalize();
    equal_in_constant_time(&encode_base64(&[&digest, salt].concat()), encoded)
}

/// What nginx leaves to the C library.
fn fits_crypt(password: &[u8], hash: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(hash) else { return false };
    match hash {
        [b'$', b'1', b'$', ..] => equal_in_constant_time(&md5::crypt(password, b"$1$", hash), hash),
        [b'$', b'2', b'a' | b'b' | b'y', b'$', ..] => bcrypt::verify(password, text).unwrap_or(false),
        // A hash that lacks a part fits no password.
        [b'$', b'5' | b'6', b'$', ..] => PasswordHashRef::new(text)
            .is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok()),
        [b'$', b'y', b'$', ..] => Yescrypt::default().verify_password(password, text).is_ok(),
        _ => des::crypt(password, hash).is_some_and(|own| equal_in_constant_time(&own, hash)),
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
            assert!(fits(b"secret", hash.as_bytes()), "{hash}");
            assert!(fits(b"secret\0more", hash.as_bytes()), "{hash}");
            assert!(!fits(b"Secret", hash.as_bytes()), "{hash}");
            assert!(!fits(b"", hash.as_bytes()), "{hash}");
            assert!(!fits(b"secret", &hash.as_bytes()[..hash.len() - 1]), "{hash}");
        }
    }

    #[test]
    fn yescrypt_of_shadow_files() {
        // As mkpasswd writes it: parameters, salt and hash of full length.
        let hash = "$y$j9T$saltsalt$VuCHcCYYVuebTL.IxzSml3z./71e36sys.wEb95cM54";
        assert!(fits(b"secret", hash.as_bytes()));
        assert!(!fits(b"Secret", hash.as_bytes()));
    }

    #[test]
    fn salted_sha1() {
        let check = |password: &str, hash: &str, expected| {
            assert_eq!(fits(password.as_bytes(), hash.as_bytes()), expected, "{hash}");
        };
        check("password", "{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0", true);
        check("Password", "{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0", false);
        check("1", "{SSHA}_____wQadOA1e+/f+T+H3eCQQhRzYWx0", false);
        check("1", "{SSHA}Zm9vCg==", false);
        check("1", "{SSHA}", false);
    }

    #[test]
    fn what_is_no_hash() {
        let check = |hash: &str, expected| {
            assert_eq!(fits(b"secret", hash.as_bytes()), expected, "{hash}");
        };
        check("", false);
        check("*", false);
        check("!!", false);
        check("$9$x$y", false);
        check("$2b$05$", false);
        check("$1$", false);
        check("$5$", false);
        check("$6$salt", false);
        check("secret", false);
        assert!(!fits(&[b'a'; 512], &md5::crypt(&[b'a'; 512], b"$1$", b"$1$")));
    }

    #[test]
    fn long_passwords_have_md5_too() {
        let long = b"a password of more than sixteen characters";
        let hash = md5::crypt(long, b"$1$", b"$1$abc$");
        assert_eq!(String::from_utf8_lossy(&hash), "$1$abc$hCpB0icaF0pFBQHjrmjEt0");
    }
}
