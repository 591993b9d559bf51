//! The static table of HPACK (RFC 7541, appendix A), and names found in it.

/// Entries of the static table.
pub(super) const STATIC: usize = 61;

/// Names and values by index, of which the first is 1.
#[rustfmt::skip]
static ENTRIES: [(&[u8], &[u8]); STATIC] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// Slots of the table by hash; a power of two, half empty.
const SLOTS: usize = 128;

/// For each slot the first index of a name, or 0.
static BY_HASH: [u8; SLOTS] = by_hash();

/// An entry by its index.
#[inline]
pub(super) fn entry(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    ENTRIES.get(index.checked_sub(1)?).copied()
}

/// A hash of a name in lower case (FNV-1a).
#[inline]
pub(super) const fn hash(name: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// The first index of a name in lower case whose hash is at hand; 0 where it has none.
#[inline]
pub(super) fn index_of(name: &[u8], hash: u32) -> usize {
    let mut slot = hash as usize % SLOTS;
    loop {
        let index = usize::from(BY_HASH[slot]);
        match entry(index) {
            None => return 0,
            Some((known, _)) if known == name => return index,
            Some(_) => slot = (slot + 1) % SLOTS,
        }
    }
}

/// The index of a name and value, given the first index of the name; 0 where there is none.
#[inline]
pub(super) fn index_with_value(name: &[u8], first: usize, value: &[u8]) -> usize {
    let mut index = first;
    while let Some((known, known_value)) = entry(index)
        && known == name
    {
        if known_value == value {
            return index;
        }
        index += 1;
    }
    0
}

const fn by_hash() -> [u8; SLOTS] {
    let mut slots = [0u8; SLOTS];
    let mut index = 0;
    while index < STATIC {
        let name = ENTRIES[index].0;
        let is_first = index == 0 || !same(ENTRIES[index - 1].0, name);
        if is_first {
            let mut slot = hash(name) as usize % SLOTS;
            while slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = index as u8 + 1;
        }
        index += 1;
    }
    slots
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found() {
        for index in 1..=STATIC {
            let (name, value) = entry(index).expect("an entry");
            let first = index_of(name, hash(name));
            assert!(first > 0 && first <= index);
            let found = index_with_value(name, first, value);
            assert_eq!(found, index);
        }
        for name in ["x-custom", "", "hosts", ":pat"] {
            assert_eq!(index_of(name.as_bytes(), hash(name.as_bytes())), 0, "{name}");
        }
        assert_eq!(entry(0), None);
        assert_eq!(entry(62), None);
    }
}
