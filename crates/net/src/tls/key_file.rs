//! Private keys as files hold them: plain, or encrypted by a password.
//!
//! Encrypted ones are PKCS#8 with PBES2 (RFC 8018), as OpenSSL writes them now, and what it wrote formerly: a cipher in
//! the header and a key made of MD5.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use md5::{Digest, Md5};
use rustls::pki_types::PrivateKeyDer;

use super::der::{Malformed, Reader, tag};
use super::identity::plain_key;
use super::pem::Block;

const UNSUPPORTED: &str = "error:1E08010C:DECODER routines::unsupported";
const NO_PASSWORD: &str = "error:07880109:common libcrypto routines::interrupted or cancelled";
const BAD_DECRYPT: &str = "error:1C800064:Provider routines::bad decrypt";

/// Rounds beyond which a file is taken for an attack on our time.
const MOST_ROUNDS: u64 = 10_000_000;

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
/// `hmacWithSHA1` and its kin, but for the last byte.
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2];
/// The ciphers of NIST, but for the last byte.
const AES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];

const PKCS8: &str = "ENCRYPTED PRIVATE KEY";

fn header(block: &Block) -> Option<&str> {
    block.headers.iter().find(|(name, _)| name == "DEK-Info").map(|(_, value)| value.as_str())
}

/// Whether a password is needed.
pub(super) fn is_encrypted(block: &Block) -> bool {
    block.label == PKCS8 || header(block).is_some()
}

/// The key in a block, decrypted by the first password that fits.
///
/// # Errors
/// OpenSSL's reason.
pub(super) fn decrypt(block: Block, passwords: &[Vec<u8>]) -> Result<PrivateKeyDer<'static>, &'static str> {
    let info = header(&block);
    let is_pkcs8 = block.label == PKCS8;
    if !is_encrypted(&block) {
        return plain_key(&block.label, block.der).ok_or(UNSUPPORTED);
    }
    if passwords.is_empty() {
        return Err(NO_PASSWORD);
    }
    let mut failure = BAD_DECRYPT;
    for password in passwords {
        let opened = match info {
            _ if is_pkcs8 => open_pkcs8(&block.der, password),
            Some(info) => open_legacy(info, &block.der, password),
            None => Err(UNSUPPORTED),
        };
        let label = if is_pkcs8 { "PRIVATE KEY" } else { &block.label };
        match opened {
            // A wrong password may leave a proper padding by chance, but no key.
            Ok(der) if Reader::new(&der).sequence().is_ok() => {
                return plain_key(label, der).ok_or(UNSUPPORTED);
            }
            Ok(_) => {}
            Err(reason) => failure = reason,
        }
    }
    Err(failure)
}

struct Scheme<'a> {
    salt: &'a [u8],
    rounds: NonZeroU32,
    hash: pbkdf2::Algorithm,
    cipher: &'static Algorithm,
    iv: [u8; 16],
    text: &'a [u8],
}

fn read_pkcs8(der: &[u8]) -> Result<Option<Scheme<'_>>, Malformed> {
    let mut outer = Reader::new(der).sequence()?;
    let mut algorithm = outer.sequence()?;
    let text = outer.expect(tag::OCTET_STRING)?.content;
    if algorithm.expect(tag::OID)?.content != PBES2 {
        return Ok(None);
    }
    let mut parts = algorithm.sequence()?;
    let (mut derivation, mut cipher) = (parts.sequence()?, parts.sequence()?);
    if derivation.expect(tag::OID)?.content != PBKDF2 {
        return Ok(None);
    }
    let mut parameters = derivation.sequence()?;
    let salt = parameters.expect(tag::OCTET_STRING)?.content;
    let rounds = parameters.expect(tag::INTEGER)?.small()?;
    parameters.optional(tag::INTEGER)?;
    let hash = match parameters.optional(tag::SEQUENCE)? {
        None => 7,
        Some(hash) => {
            let id = hash.reader().expect(tag::OID)?.content;
            id.strip_prefix(HMAC).and_then(|rest| rest.first().copied()).unwrap_or(0)
        }
    };
    let hash = match hash {
        7 => pbkdf2::PBKDF2_HMAC_SHA1,
        9 => pbkdf2::PBKDF2_HMAC_SHA256,
        10 => pbkdf2::PBKDF2_HMAC_SHA384,
        11 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Ok(None),
    };
    let id = cipher.expect(tag::OID)?.content;
    let cipher_of = match id.strip_prefix(AES).and_then(|rest| rest.first().copied()) {
        Some(2) => &AES_128,
        Some(22) => &AES_192,
        Some(42) => &AES_256,
        _ => return Ok(None),
    };
    let iv = cipher.expect(tag::OCTET_STRING)?.content.try_into().map_err(|_| Malformed)?;
    let rounds = u32::try_from(rounds.min(MOST_ROUNDS)).ok().and_then(NonZeroU32::new).ok_or(Malformed)?;
    Ok(Some(Scheme { salt, rounds, hash, cipher: cipher_of, iv, text }))
}

fn open_pkcs8(der: &[u8], password: &[u8]) -> Result<Vec<u8>, &'static str> {
    let scheme = read_pkcs8(der).map_err(|Malformed| UNSUPPORTED)?.ok_or(UNSUPPORTED)?;
    let mut key = vec![0; key_length(scheme.cipher)];
    pbkdf2::derive(scheme.hash, scheme.rounds, scheme.salt, password, &mut key);
    decrypt_cbc(scheme.cipher, &key, scheme.iv, scheme.text)
}

/// `DEK-Info: AES-256-CBC,IV` (`PEM_do_header`).
fn open_legacy(info: &str, text: &[u8], password: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (name, iv) = info.split_once(',').ok_or(UNSUPPORTED)?;
    let cipher = match name {
        "AES-128-CBC" => &AES_128,
        "AES-192-CBC" => &AES_192,
        "AES-256-CBC" => &AES_256,
        _ => return Err(UNSUPPORTED),
    };
    let iv = from_hex(iv.trim()).ok_or(UNSUPPORTED)?;
    // Each piece of the key is the hash of the one before, the password and the beginning of the vector.
    let mut key = Vec::new();
    let mut piece = Vec::new();
    while key.len() < key_length(cipher) {
        let mut hash = Md5::new();
        hash.update(&piece);
        hash.update(password);
        hash.update(&iv[..8]);
        piece = hash.finalize().to_vec();
        key.extend_from_slice(&piece);
    }
    key.truncate(key_length(cipher));
    decrypt_cbc(cipher, &key, iv, text)
}

fn key_length(cipher: &Algorithm) -> usize {
    if *cipher == AES_128 {
        16
    } else if *cipher == AES_192 {
        24
    } else {
        32
    }
}

fn decrypt_cbc(
    cipher: &'static Algorithm,
    key: &[u8],
    iv: [u8; 16],
    text: &[u8],
) -> Result<Vec<u8>, &'static str> {
    let key = UnboundCipherKey::new(cipher, key).map_err(|_| UNSUPPORTED)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| UNSUPPORTED)?;
    let mut plain = text.to_vec();
    let opened = key.decrypt(&mut plain, DecryptionContext::Iv128(FixedLength::from(iv)));
    opened.map(|plain| plain.to_vec()).map_err(|_| BAD_DECRYPT)
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 32 {
        return None;
    }
    let mut out = [0; 16];
    for (byte, pair) in out.iter_mut().zip(text.chunks(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(out)
}
