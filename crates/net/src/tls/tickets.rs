//! Session tickets: sealed by keys of the operator's files, or by keys that change by themselves.
//!
//! What a ticket was made for (certificates, client-certificate policy) is sealed into it, so that one server block's
//! tickets are worth nothing at another. How long it is tells next to nothing of what is in it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use rustls::server::ProducesTickets;

use super::sessions::{Context, now_sec};

const NAME: usize = 16;
const TAG: usize = 16;
/// Expiry in front of what rustls seals.
const STAMP: usize = 8;
/// The length of that, behind the expiry.
const LENGTH: usize = 4;
/// What is sealed is filled up to a multiple of this.
const BLOCK: usize = 64;
/// Longest ticket that is looked at; a chain of client certificates is in it.
const LONGEST: usize = 64 << 10;

struct Sealing {
    name: [u8; NAME],
    key: LessSafeKey,
    made_sec: u64,
}

impl Sealing {
    fn new(name: [u8; NAME], secret: &[u8; 32]) -> Option<Arc<Self>> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).ok()?);
        Some(Arc::new(Self { name, key, made_sec: now_sec() }))
    }

    fn random() -> Option<Arc<Self>> {
        let (mut name, mut secret) = ([0; NAME], [0; 32]);
        rand::fill(&mut name).ok()?;
        rand::fill(&mut secret).ok()?;
        Self::new(name, &secret)
    }
}

/// The keys of tickets; the first one seals, all open.
pub struct TicketKeys {
    keys: RwLock<Vec<Arc<Sealing>>>,
    rotates: bool,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

impl TicketKeys {
    /// Keys that are made by themselves and change with each session timeout.
    #[must_use]
    pub fn rotating() -> Self {
        Self { keys: RwLock::default(), rotates: true }
    }

    /// The keys of `ssl_session_ticket_key` files, each of 48 or 80 bytes; `None` when one has another length.
    #[must_use]
    pub fn of_files(files: &[Arc<[u8]>]) -> Option<Self> {
        let mut keys = Vec::new();
        for file in files {
            if !matches!(file.len(), 48 | 80) {
                return None;
            }
            let (name, secret) = file.split_first_chunk::<NAME>()?;
            let digest = digest::digest(&digest::SHA256, secret);
            keys.push(Sealing::new(*name, digest.as_ref().try_into().ok()?)?);
        }
        Some(Self { keys: RwLock::new(keys), rotates: false })
    }

    fn sealing(&self, timeout_sec: u64) -> Option<Arc<Sealing>> {
        let is_fresh = |key: &Arc<Sealing>| !self.rotates || now_sec() < key.made_sec + timeout_sec.max(1);
        {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(first) = keys.first().filter(|key| is_fresh(key)) {
                return Some(Arc::clone(first));
            }
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster.
        if let Some(first) = keys.first().filter(|key| is_fresh(key)) {
            return Some(Arc::clone(first));
        }
        let new = Sealing::random()?;
        keys.insert(0, Arc::clone(&new));
        // The one before opens what it has sealed until that is over its time too.
        keys.truncate(2);
        Some(new)
    }

    fn opening(&self, name: &[u8]) -> Option<Arc<Sealing>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|key| key.name == name).cloned()
    }
}

/// The tickets of one server block.
#[derive(Debug)]
pub struct Tickets {
    /// The keys, perhaps shared with other blocks.
    pub keys: Arc<TicketKeys>,
    /// What they are good for.
    pub context: Context,
    /// `ssl_session_timeout`, seconds.
    pub timeout_sec: u64,
}

impl Tickets {
    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        if sealed.len() > LONGEST {
            return None;
        }
        let key = self.keys.opening(name)?;
        let mut text = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.key.open_in_place(nonce, Aad::from(self.context.bytes()), &mut text).ok()?;
        let (stamp, rest) = opened.split_first_chunk::<STAMP>()?;
        let (length, rest) = rest.split_first_chunk::<LENGTH>()?;
        let plain = rest.get(..u32::from_be_bytes(*length) as usize)?;
        (now_sec() <= u64::from_be_bytes(*stamp)).then(|| plain.to_vec())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.timeout_sec).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.sealing(self.timeout_sec)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let filled = (STAMP + LENGTH + plain.len()).next_multiple_of(BLOCK);
        let mut out = Vec::with_capacity(NAME + NONCE_LEN + filled + TAG);
        out.extend_from_slice(&key.name);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(&(now_sec() + self.timeout_sec).to_be_bytes());
        out.extend_from_slice(&u32::try_from(plain.len()).ok()?.to_be_bytes());
        out.extend_from_slice(plain);
        out.resize(start + filled, 0);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = out.get_mut(start..)?;
        let tag = key.key.seal_in_place_separate_tag(nonce, Aad::from(self.context.bytes()), sealed).ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket)
    }
}

/// No tickets.
#[derive(Debug)]
pub struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(keys: &Arc<TicketKeys>, context: &[u8]) -> Tickets {
        Tickets { keys: Arc::clone(keys), context: Context::of([context]), timeout_sec: 100 }
    }

    #[test]
    fn a_ticket_is_good_where_it_was_made() {
        let keys = Arc::new(TicketKeys::rotating());
        let (here, there) = (tickets(&keys, b"a"), tickets(&keys, b"b"));
        let ticket = here.encrypt(b"session").expect("a ticket");
        assert_eq!(here.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(there.decrypt(&ticket), None);
        assert_eq!(here.encrypt(b"a session of more words").map(|ticket| ticket.len()), Some(ticket.len()));
        let mut broken = ticket.clone();
        broken[40] ^= 1;
        assert_eq!(here.decrypt(&broken), None);
        for length in 0..ticket.len() {
            assert_eq!(here.decrypt(&ticket[..length]), None);
        }
        let late = Tickets { timeout_sec: 0, ..tickets(&keys, b"a") };
        let other = Arc::new(TicketKeys::rotating());
        assert_eq!(tickets(&other, b"a").decrypt(&ticket), None);
        assert!(late.encrypt(b"x").is_some());
    }

    #[test]
    fn the_first_file_seals_and_all_open() {
        let file = |byte: u8, length: usize| Arc::<[u8]>::from(vec![byte; length]);
        let old = Arc::new(TicketKeys::of_files(&[file(1, 48)]).expect("keys"));
        let new = Arc::new(TicketKeys::of_files(&[file(2, 80), file(1, 48)]).expect("keys"));
        let ticket = tickets(&old, b"").encrypt(b"session").expect("a ticket");
        assert_eq!(&ticket[..16], &[1; 16]);
        assert!(tickets(&new, b"").decrypt(&ticket).is_some());
        let ticket = tickets(&new, b"").encrypt(b"session").expect("a ticket");
        assert_eq!(&ticket[..16], &[2; 16]);
        assert!(tickets(&old, b"").decrypt(&ticket).is_none());
        assert!(TicketKeys::of_files(&[file(1, 47)]).is_none());
    }
}
