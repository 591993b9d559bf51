//! Poul-Henning Kamp's crypt with a thousand rounds of MD5: `$1$`, and Apache's `$apr1$`, which differs in that
//! name alone.

use md5::{Digest, Md5};

/// The characters of salt that count.
const SALT_MAX: usize = 8;

/// The hash of a password under the salt behind `magic` in `setting`.
pub(super) fn crypt(password: &[u8], magic: &[u8], setting: &[u8]) -> Vec<u8> {
    let salt = setting.get(magic.len()..).unwrap_or_default();
    let end = salt.iter().take(SALT_MAX).take_while(|byte| **byte != b'$').count();
    let salt = salt.get(..end).unwrap_or_default();
    let mut digest = Md5::digest([password, salt, password].concat());
    let mut hash = Md5::new();
    hash.update(password);
    hash.update(magic);
    hash.update(salt);
    for start in (0..password.len()).step_by(16) {
        hash.update(&digest[..(password.len() - start).min(16)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // A zero, or the password's first byte: a slip of the first version that everybody kept.
        hash.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    digest = hash.finalize();
    for round in 0..1000 {
        let mut hash = Md5::new();
        hash.update(if round & 1 == 1 { password } else { &digest });
        if round % 3 != 0 {
            hash.update(salt);
        }
        if round % 7 != 0 {
            hash.update(password);
        }
        hash.update(if round & 1 == 1 { &digest } else { password });
        digest = hash.finalize();
    }
    let mut out = [magic, salt, b"$"].concat();
    for [high, middle, low] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        push(
            u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low]),
            4,
            &mut out,
        );
    }
    push(u32::from(digest[11]), 2, &mut out);
    out
}

/// Appends `count` times six bits, the lowest first.
fn push(bits: u32, count: u32, out: &mut Vec<u8>) {
    out.extend((0..count).map(|at| super::LETTERS[(bits >> (at * 6) & 0x3f) as usize]));
}
