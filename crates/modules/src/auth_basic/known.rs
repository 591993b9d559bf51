//! Passwords that were right a moment ago, so that a client's next request costs no hashing.
//!
//! Kept per thread, and only as keyed digests of user, password and hash together: another hash in the file, or
//! another password, is another digest. Wrong passwords are not kept, so guessing pushes nothing out.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use base::equal_in_constant_time;
use base::lru::Lru;
use sha2::{Digest, Sha256};

/// Passwords that a thread keeps.
const MOST: usize = 1024;
/// How long one is kept after it was checked.
const KEPT_MS: u64 = 60_000;

/// The keyed digest of a user's name, password and hash.
#[derive(Clone, Copy, Default)]
pub(super) struct Proof([u8; 32]);

#[derive(Clone, Copy, Default)]
struct Entry {
    proof: Proof,
    until_ms: u64,
}

struct Known {
    secret: [u8; 32],
    table: Lru<Entry>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::new(Known { secret: secret(), table: Lru::default() });
}

/// A key from the system's generator.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    for (index, part) in secret.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&RandomState::new().hash_one(index).to_le_bytes());
    }
    secret
}

impl Proof {
    pub(super) fn new(user: &[u8], password: &[u8], hash: &[u8]) -> Self {
        let mut digest = Sha256::new();
        KNOWN.with_borrow(|known| digest.update(known.secret));
        for part in [user, password, hash] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    fn key(&self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

/// Whether this was right not long ago; `now_ms` is the monotonic time.
pub(super) fn is_known(proof: &Proof, now_ms: u64) -> bool {
    KNOWN.with_borrow_mut(|known| {
        let key = proof.key();
        let Some(place) = known.table.find(key, &key.to_le_bytes()) else { return false };
        let entry = *known.table.value(place);
        if entry.until_ms <= now_ms {
            known.table.remove(place);
            return false;
        }
        known.table.touch(place);
        equal_in_constant_time(&entry.proof.0, &proof.0)
    })
}

/// Keeps what was right.
pub(super) fn keep(proof: Proof, now_ms: u64) {
    KNOWN.with_borrow_mut(|known| {
        let key = proof.key();
        let entry = Entry { proof, until_ms: now_ms + KEPT_MS };
        if let Some(place) = known.table.find(key, &key.to_le_bytes()) {
            *known.table.value_mut(place) = entry;
            return;
        }
        if known.table.len() >= MOST
            && let Some(oldest) = known.table.oldest()
        {
            known.table.remove(oldest);
        }
        known.table.insert(key, &key.to_le_bytes(), entry);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_words_are_known() {
        let proof = |user: &str, password: &str, hash: &str| {
            Proof::new(user.as_bytes(), password.as_bytes(), hash.as_bytes())
        };
        keep(proof("a", "b", "c"), 1000);
        assert!(is_known(&proof("a", "b", "c"), 1000));
        assert!(is_known(&proof("a", "b", "c"), 1000 + KEPT_MS - 1));
        for (user, password, hash) in [("ab", "", "c"), ("a", "bc", ""), ("a", "b", "d"), ("x", "b", "c")] {
            assert!(!is_known(&proof(user, password, hash), 1000), "{user} {password} {hash}");
        }
        assert!(!is_known(&proof("a", "b", "c"), 1000 + KEPT_MS));
        assert!(!is_known(&proof("a", "b", "c"), 1000), "what has expired is gone");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let proof = |number: usize| Proof::new(&number.to_le_bytes(), b"", b"");
        (0..MOST * 2).for_each(|number| keep(proof(number), 0));
        assert!(KNOWN.with_borrow(|known| known.table.len() == MOST));
        assert!(!is_known(&proof(0), 0) && is_known(&proof(MOST * 2 - 1), 0));
    }
}
