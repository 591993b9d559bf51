//! The field names that a proxy acts upon, found without a hash map.
//!
//! A name is compared as up to three folded words with the one known name that its hash allows it to be; the hash is
//! chosen while this is compiled.

/// Eight bytes at each end of a name and the eight in its middle, folded to lower case.
type Key = [u64; 3];

/// The longest name in the table, in bytes; three words can hold no more than 24.
const LONGEST: usize = 24;

/// As many places as the hash has values. With eight times as many as names, one of the first few factors has no two
/// names collide.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 9;

/// A known name as it is compared.
#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    length: u8,
    known: Known,
}

macro_rules! known {
    ($($variant:ident $text:literal,)*) => {
        /// A field name that some part of the proxy acts upon; every other name is [`Known::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each variant is the field of that name")]
        pub enum Known {
            $($variant,)*
            Other,
        }

        const NAMES: &[(Known, &str)] = &[$((Known::$variant, $text),)*];
    };
}

known! {
    Host "Host",
    Connection "Connection",
    ContentLength "Content-Length",
    TransferEncoding "Transfer-Encoding",
    Expect "Expect",
    Upgrade "Upgrade",
    Cookie "Cookie",
    XForwardedFor "X-Forwarded-For",
    IfModifiedSince "If-Modified-Since",
    IfUnmodifiedSince "If-Unmodified-Since",
    IfMatch "If-Match",
    IfNoneMatch "If-None-Match",
    IfRange "If-Range",
    Range "Range",
    Authorization "Authorization",
    ProxyAuthorization "Proxy-Authorization",
    KeepAlive "Keep-Alive",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    Accept "Accept",
    UserAgent "User-Agent",
    Referer "Referer",
    Via "Via",
    Te "TE",
    ContentType "Content-Type",
    ContentEncoding "Content-Encoding",
    ContentRange "Content-Range",
    ContentDisposition "Content-Disposition",
    Date "Date",
    Server "Server",
    LastModified "Last-Modified",
    ETag "ETag",
    Location "Location",
    Refresh "Refresh",
    SetCookie "Set-Cookie",
    CacheControl "Cache-Control",
    Expires "Expires",
    Vary "Vary",
    Link "Link",
    Pragma "Pragma",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    AcceptRanges "Accept-Ranges",
    Trailer "Trailer",
    Age "Age",
    XAccelRedirect "X-Accel-Redirect",
    XAccelExpires "X-Accel-Expires",
    XAccelLimitRate "X-Accel-Limit-Rate",
    XAccelBuffering "X-Accel-Buffering",
    XAccelCharset "X-Accel-Charset",
    XPad "X-Pad",
    ProxyConnection "Proxy-Connection",
    Origin "Origin",
    SecWebsocketKey "Sec-WebSocket-Key",
    Destination "Destination",
    Depth "Depth",
    Overwrite "Overwrite",
    XRealIp "X-Real-IP",
    Status "Status",
}

impl Known {
    /// How many names there are, [`Known::Other`] included.
    pub const COUNT: usize = Known::Other as usize + 1;

    /// The known name that equals `name`, letters compared without case.
    #[inline]
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let key = key(name);
        let entry = &ENTRIES[PLACE[place(key, FACTOR)] as usize];
        let is_same = entry.length as usize == name.len()
            && entry.key[0] == key[0]
            && entry.key[1] == key[1]
            && entry.key[2] == key[2];
        if is_same { entry.known } else { Self::Other }
    }

    /// The name as RFCs and nginx write it; empty for [`Known::Other`].
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |(_, text)| text)
    }

    /// All that have a name.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(known, _)| *known)
    }

    /// One bit of a set of names.
    #[inline]
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self as u32
    }
}

const _: () = assert!(Known::COUNT <= 64, "sets of names are one word");

/// Lower case of the ASCII letters among eight bytes. Other bytes with bit 6 change too, but never into
/// a byte of a known name.
#[inline]
const fn fold(word: u64) -> u64 {
    word | (word & 0x4040_4040_4040_4040) >> 1
}

/// Every byte of a name of at most [`LONGEST`] bytes lies in one of the three words.
#[inline]
const fn key(name: &[u8]) -> Key {
    let Some(head) = name.first_chunk::<8>() else {
        return [fold(short(name)), 0, 0];
    };
    let tail = match name.last_chunk::<8>() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => 0,
    };
    let middle = match name.split_at(8).1.first_chunk::<8>() {
        Some(middle) => u64::from_le_bytes(*middle),
        None => 0,
    };
    [fold(u64::from_le_bytes(*head)), fold(tail), fold(middle)]
}

/// Up to seven bytes as one word. Names of different lengths are never compared with each other.
#[inline]
const fn short(name: &[u8]) -> u64 {
    match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (Some(head), Some(tail)) => {
            u32::from_le_bytes(*head) as u64 | (u32::from_le_bytes(*tail) as u64) << 32
        }
        _ => match *name {
            [a] => a as u64,
            [a, b] => a as u64 | (b as u64) << 8,
            [a, b, c] => a as u64 | (b as u64) << 8 | (c as u64) << 16,
            _ => 0,
        },
    }
}

/// The place that a factor gives a key.
#[inline]
const fn place(key: Key, factor: u64) -> usize {
    let word = key[0] ^ key[1].rotate_left(23);
    (word.wrapping_mul(factor) >> (u64::BITS - PLACE_BITS)) as usize
}

/// The names, and behind them what stands for none.
static ENTRIES: [Entry; NAMES.len() + 1] = {
    let none = Entry { key: [0; 3], length: u8::MAX, known: Known::Other };
    let mut entries = [none; NAMES.len() + 1];
    let mut index = 0;
    while index < NAMES.len() {
        let (known, text) = NAMES[index];
        assert!(text.len() <= LONGEST, "a known name is too long for its key");
        entries[index] = Entry { key: key(text.as_bytes()), length: text.len() as u8, known };
        index += 1;
    }
    entries
};

const FACTOR: u64 = PERFECT.0;
static PLACE: [u8; PLACES] = PERFECT.1;

/// A factor that gives each name a place of its own, and the index of the entry for each place.
const PERFECT: (u64, [u8; PLACES]) = {
    let mut factor = 0x9e37_79b9_7f4a_7c15u64;
    loop {
        let mut places = [NAMES.len() as u8; PLACES];
        let mut index = 0;
        while index < NAMES.len() {
            let taken = &mut places[place(key(NAMES[index].1.as_bytes()), factor)];
            if *taken as usize != NAMES.len() {
                break;
            }
            *taken = index as u8;
            index += 1;
        }
        if index == NAMES.len() {
            break (factor, places);
        }
        factor = factor.wrapping_mul(0x5851_f42d_4c95_7f2d);
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for (known, text) in NAMES {
            assert_eq!(Known::of(text.as_bytes()), *known, "{text}");
            assert_eq!(Known::of(text.to_ascii_lowercase().as_bytes()), *known, "{text}");
            assert_eq!(Known::of(text.to_ascii_uppercase().as_bytes()), *known, "{text}");
            assert_eq!(known.name(), *text);
        }
        assert_eq!(Known::Other.name(), "");
    }

    #[test]
    fn no_other_byte_passes_for_one_of_a_name() {
        for (_, text) in NAMES {
            for at in 0..text.len() {
                let mut name = text.as_bytes().to_vec();
                for byte in 0..=255u8 {
                    name[at] = byte;
                    let same = name.eq_ignore_ascii_case(text.as_bytes());
                    assert!(
                        Known::of(&name) == Known::Other
                            || Known::of(&name).name().as_bytes().eq_ignore_ascii_case(&name),
                        "{name:?}"
                    );
                    assert!(!same || Known::of(&name) != Known::Other);
                }
            }
        }
    }

    #[test]
    fn strangers() {
        for name in ["", "x", "X-Custom", "Content-Lengt", "Content-Lengthh", "a-name-longer-than-all-others"]
        {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
    }
}
