//! An entry as a file: a head of fixed places, the key in plain text, the answer's head, its body.
//!
//! Sums over head and body tell an entry that was written to its end from what a crash, a full disk or a failing
//! one leaves behind. The line `KEY: …` stands where scripts that search the files for it find it.

use crate::key::Key;

/// The first bytes of a file; the last one counts versions of the form.
const MAGIC: &[u8; 8] = b"TIDEGAT\x02";
/// Bytes in front of the line with the key.
const FIXED: usize = 128;
const KEY: &[u8] = b"\nKEY: ";
/// Longest head of a file, bytes.
pub(crate) const HEAD_MAX: usize = 1 << 20;

/// What is known of an entry besides its bytes. Times are Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Until when it is fresh.
    pub valid_until: i64,
    /// Seconds behind that in which it may be served while it is being updated.
    pub updating_s: i64,
    /// Seconds behind that in which it may be served instead of an error.
    pub error_s: i64,
    /// When the answer was made.
    pub date: i64,
    /// `Last-Modified`.
    pub last_modified: Option<i64>,
    /// `ETag`.
    pub etag: Vec<u8>,
    /// Names of the fields of requests that the answer depends on.
    pub vary: Vec<u8>,
    /// The key of what the request had in these fields.
    pub variant: Key,
    /// Tags to purge by, with a space between them.
    pub tags: Vec<u8>,
    /// When its fetch began, in [epochs](crate::Ticket). The store fills it in, as what follows.
    pub epoch: u64,
    /// Variants of epochs before this are gone.
    pub gone: u64,
    /// It and its variants are stale, if they are of epochs before this.
    pub stale: u64,
}

/// Why a file is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It ends too early.
    TooSmall,
    /// Another program or version wrote it.
    Version,
    /// It belongs to another key.
    Collision,
    /// Its bytes are not those that were written.
    Checksum,
}

/// The head of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub meta: Meta,
    /// What the key is made of.
    pub key: Vec<u8>,
    /// The answer's head.
    pub head: Vec<u8>,
    /// Where the body begins.
    pub body_start: usize,
    /// Bytes of the body.
    pub body_length: u64,
    /// Its sum.
    pub body_sum: u32,
}

/// How far a head is there.
pub(crate) enum Decoded {
    /// So many bytes must be read.
    Needs(usize),
    Complete(Box<Record>),
}

/// Where things lie in the fixed part: the sum over all that follows it up to the body stands behind the magic.
mod at {
    pub const SUM: usize = 8;
    pub const HEAD: usize = 12;
    pub const VALID: usize = 16;
    pub const UPDATING: usize = 24;
    pub const ERROR: usize = 32;
    pub const DATE: usize = 40;
    pub const MODIFIED: usize = 48;
    pub const LENGTH: usize = 56;
    pub const BODY_SUM: usize = 64;
    pub const KEY: usize = 68;
    pub const ETAG: usize = 72;
    pub const VARY: usize = 76;
    pub const TAGS: usize = 80;
    pub const ANSWER: usize = 84;
    pub const VARIANT: usize = 88;
    pub const EPOCH: usize = 104;
    pub const GONE: usize = 112;
    pub const STALE: usize = 120;
}

/// `Last-Modified` where there is none.
const NEVER: i64 = i64::MIN;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn number(bytes: &[u8], at: usize) -> i64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes)
}

fn epoch(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at).cast_unsigned()
}

fn count(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn size(bytes: &[u8], at: usize) -> usize {
    usize::try_from(count(bytes, at)).unwrap_or(usize::MAX)
}

/// Writes a head; length and sum of the body are set later ([`seal`]).
pub(crate) fn encode(meta: &Meta, key: &[u8], head: &[u8]) -> Vec<u8> {
    let length =
        FIXED + KEY.len() + key.len() + 1 + meta.etag.len() + meta.vary.len() + meta.tags.len() + head.len();
    let mut out = Vec::with_capacity(length);
    out.resize(FIXED, 0);
    let short = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    put(&mut out, 0, MAGIC);
    put(&mut out, at::HEAD, &short(length));
    put(&mut out, at::MODIFIED, &meta.last_modified.unwrap_or(NEVER).to_le_bytes());
    put(&mut out, at::KEY, &short(key.len()));
    put(&mut out, at::ETAG, &short(meta.etag.len()));
    put(&mut out, at::VARY, &short(meta.vary.len()));
    put(&mut out, at::TAGS, &short(meta.tags.len()));
    put(&mut out, at::ANSWER, &short(head.len()));
    put(&mut out, at::VARIANT, meta.variant.bytes());
    for part in [KEY, key, b"\n", &meta.etag, &meta.vary, &meta.tags, head] {
        out.extend_from_slice(part);
    }
    set_times(&mut out, meta);
    out
}

/// Sets the times in a head; it must be sealed then.
fn set_times(head: &mut [u8], meta: &Meta) {
    put(head, at::VALID, &meta.valid_until.to_le_bytes());
    put(head, at::UPDATING, &meta.updating_s.to_le_bytes());
    put(head, at::ERROR, &meta.error_s.to_le_bytes());
    put(head, at::DATE, &meta.date.to_le_bytes());
    put(head, at::EPOCH, &meta.epoch.to_le_bytes());
    put(head, at::GONE, &meta.gone.to_le_bytes());
    put(head, at::STALE, &meta.stale.to_le_bytes());
}

/// Sets what is known of the body once it is complete.
pub(crate) fn seal(head: &mut [u8], body_length: u64, body_sum: u32) {
    put(head, at::LENGTH, &body_length.to_le_bytes());
    put(head, at::BODY_SUM, &body_sum.to_le_bytes());
    let sum = crc32fast::hash(head.get(at::HEAD..).unwrap_or_default());
    put(head, at::SUM, &sum.to_le_bytes());
}

/// A head with other times: the whole of it, to be written over what is there.
pub(crate) fn retimed(record: &Record, meta: &Meta) -> Vec<u8> {
    let kept = Meta {
        valid_until: meta.valid_until,
        updating_s: meta.updating_s,
        error_s: meta.error_s,
        date: meta.date,
        epoch: meta.epoch,
        stale: meta.stale,
        ..record.meta.clone()
    };
    let mut head = encode(&kept, &record.key, &record.head);
    seal(&mut head, record.body_length, record.body_sum);
    head
}

/// Reads a head from the first bytes of a file.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, Damage> {
    if bytes.len() < MAGIC.len() {
        return Err(Damage::TooSmall);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(Damage::Version);
    }
    if bytes.len() < FIXED {
        return Err(Damage::TooSmall);
    }
    let length = size(bytes, at::HEAD);
    if !(FIXED..=HEAD_MAX).contains(&length) {
        return Err(Damage::Checksum);
    }
    let Some(head) = bytes.get(..length) else { return Ok(Decoded::Needs(length)) };
    if crc32fast::hash(&head[at::HEAD..]) != count(head, at::SUM) {
        return Err(Damage::Checksum);
    }
    let mut rest = &head[FIXED..];
    let mut take = |length: usize| {
        let (part, behind) = rest.split_at_checked(length).ok_or(Damage::Checksum)?;
        rest = behind;
        Ok(part.to_vec())
    };
    take(KEY.len())?;
    let key = take(size(head, at::KEY))?;
    take(1)?;
    let meta = Meta {
        valid_until: number(head, at::VALID),
        updating_s: number(head, at::UPDATING),
        error_s: number(head, at::ERROR),
        date: number(head, at::DATE),
        last_modified: Some(number(head, at::MODIFIED)).filter(|time| *time != NEVER),
        etag: take(size(head, at::ETAG))?,
        vary: take(size(head, at::VARY))?,
        tags: take(size(head, at::TAGS))?,
        variant: head
            .get(at::VARIANT..at::VARIANT + 16)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Key::from_bytes)
            .unwrap_or_default(),
        epoch: epoch(head, at::EPOCH),
        gone: epoch(head, at::GONE),
        stale: epoch(head, at::STALE),
    };
    let answer = take(size(head, at::ANSWER))?;
    Ok(Decoded::Complete(Box::new(Record {
        meta,
        key,
        head: answer,
        body_start: length,
        body_length: number(head, at::LENGTH).unsigned_abs(),
        body_sum: count(head, at::BODY_SUM),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            valid_until: 1_800_000_000,
            updating_s: 5,
            error_s: 7,
            date: 1_700_000_000,
            last_modified: Some(1),
            etag: b"\"e\"".to_vec(),
            vary: b"accept".to_vec(),
            variant: Key::of(b"v"),
            tags: b"a b".to_vec(),
            epoch: u64::MAX,
            gone: 8,
            stale: 9,
        }
    }

    fn sealed() -> Vec<u8> {
        let mut head = encode(&meta(), b"httpx/", b"HTTP/1.1 200 OK\r\n\r\n");
        seal(&mut head, 4, 99);
        head
    }

    fn complete(bytes: &[u8]) -> Record {
        match decode(bytes) {
            Ok(Decoded::Complete(record)) => *record,
            Ok(Decoded::Needs(_)) => panic!("incomplete"),
            Err(damage) => panic!("{damage:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let record = complete(&sealed());
        assert_eq!(record.meta, meta());
        assert_eq!((&*record.key, &*record.head), (&b"httpx/"[..], &b"HTTP/1.1 200 OK\r\n\r\n"[..]));
        assert_eq!((record.body_start, record.body_length, record.body_sum), (sealed().len(), 4, 99));
        assert!(sealed().windows(13).any(|window| window == b"\nKEY: httpx/\n"));
        let never = Meta { last_modified: None, ..meta() };
        let mut head = encode(&never, b"", b"");
        seal(&mut head, 0, 0);
        assert_eq!(complete(&head).meta, never);
    }

    #[test]
    fn times_alone_may_change() {
        let record = complete(&sealed());
        let later = Meta {
            valid_until: 1,
            updating_s: 2,
            error_s: 3,
            date: 4,
            epoch: 5,
            stale: 6,
            ..Meta::default()
        };
        let head = retimed(&record, &later);
        assert_eq!(head.len(), record.body_start);
        let read = complete(&head).meta;
        assert_eq!((read.valid_until, read.updating_s, read.error_s, read.date), (1, 2, 3, 4));
        assert_eq!((read.epoch, read.stale, read.gone), (5, 6, 8));
        assert_eq!((read.etag, read.tags), (meta().etag, meta().tags));
    }

    #[test]
    fn every_flipped_bit_shows() {
        let good = sealed();
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            match decode(&bad) {
                Err(_) => {}
                Ok(Decoded::Needs(length)) => assert!(length > bad.len(), "bit {at}"),
                Ok(Decoded::Complete(_)) => panic!("bit {at}"),
            }
        }
        for length in 0..good.len() {
            assert!(!matches!(decode(&good[..length]), Ok(Decoded::Complete(_))), "{length}");
        }
    }
}
