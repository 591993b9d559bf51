//! The field names that a proxy acts upon, found without a hash map.
//!
//! A name is compared with the one known name that its length and its middle allow it to be, sixteen bytes at once; the
//! hash of them is chosen while this is compiled.

use wide::u8x16;

/// Bytes that are compared at once; behind a shorter name there is its colon.
pub(crate) const BLOCK: usize = 16;

/// As many places as the hash has values. With four times as many as names, one of the first few thousand factors has no
/// two names collide.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 8;

/// A known name as it is compared, in one line of the processor's cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Entry {
    /// A name that is shorter than this in lower case, and its colon.
    lower: [u8; BLOCK],
    /// The bit by which a letter differs from its capital, wherever there is a letter.
    case: [u8; BLOCK],
    /// Which of these bytes count, the colon among them.
    counted: u32,
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
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let middle = middle(name.len());
        if name.len() < BLOCK {
            let mut block = [b':'; BLOCK];
            for (place, byte) in block.iter_mut().zip(name) {
                *place = *byte;
            }
            let middle = [block[middle], block[middle + 1]];
            return Self::of_start(u8x16::from(block), name.len(), middle).unwrap_or(Self::Other);
        }
        let known = ENTRIES[place(name.len(), [name[middle], name[middle + 1]], FACTOR)].known;
        if known.name().as_bytes().eq_ignore_ascii_case(name) { known } else { Self::Other }
    }

    /// The known name that equals a short one: the first `length` bytes of a block, behind which there is a colon.
    /// `middle` are the two bytes at its [`middle`].
    #[inline]
    #[must_use]
    pub(crate) fn of_start(block: u8x16, length: usize, middle: [u8; 2]) -> Option<Self> {
        let entry = &ENTRIES[place(length, middle, FACTOR)];
        let bytes = block | u8x16::from(entry.case);
        let same = bytes.simd_eq(u8x16::from(entry.lower)).to_bitmask();
        (entry.counted & !same == 0).then_some(entry.known)
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

/// Where in a name of this length two bytes are that no two known names of this length have in common.
#[inline]
pub(crate) const fn middle(length: usize) -> usize {
    (length / 2) | 1
}

/// The place that a factor gives a name of this length with these bytes in its middle.
#[inline]
const fn place(length: usize, middle: [u8; 2], factor: u32) -> usize {
    // The bit of the case is set in both.
    let word = 0x2020 | u16::from_le_bytes(middle) as u32 | (length as u32) << 16;
    (word.wrapping_mul(factor) >> (u32::BITS - PLACE_BITS)) as usize
}

const fn place_of(text: &str, factor: u32) -> usize {
    let name = text.as_bytes();
    let middle = middle(name.len());
    // Behind a name of two letters there is its colon.
    let next = if middle + 1 < name.len() { name[middle + 1] } else { b':' };
    place(name.len(), [name[middle], next], factor)
}

/// A factor that gives each name a place of its own.
const FACTOR: u32 = {
    let mut factor = 0x9e37_79b9u32;
    loop {
        let mut taken = [false; PLACES];
        let mut index = 0;
        while index < NAMES.len() {
            let place = place_of(NAMES[index].1, factor);
            if taken[place] {
                break;
            }
            taken[place] = true;
            index += 1;
        }
        if index == NAMES.len() {
            break factor;
        }
        factor = factor.wrapping_mul(0x915f_77f5).wrapping_add(2);
    }
};

/// Each name at its place. Where there is none, a byte counts that is in no block.
static ENTRIES: [Entry; PLACES] = {
    let none = Entry { lower: [0; BLOCK], case: [0; BLOCK], counted: 1 << BLOCK, known: Known::Other };
    let mut entries = [none; PLACES];
    let mut index = 0;
    while index < NAMES.len() {
        let (known, text) = NAMES[index];
        entries[place_of(text, FACTOR)] = entry(known, text.as_bytes());
        index += 1;
    }
    entries
};

const fn entry(known: Known, name: &[u8]) -> Entry {
    let mut entry = Entry { lower: [0; BLOCK], case: [0; BLOCK], counted: 1 << BLOCK, known };
    if name.len() >= BLOCK {
        return entry;
    }
    let mut at = 0;
    while at < name.len() {
        entry.lower[at] = name[at].to_ascii_lowercase();
        entry.case[at] = (name[at].is_ascii_alphabetic() as u8) << 5;
        at += 1;
    }
    entry.lower[at] = b':';
    entry.counted = (2 << at) - 1;
    entry
}

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
        for name in [
            "",
            "x",
            "X-Custom",
            "Content-Lengt",
            "Content-Lengthh",
            "Host:",
            "a-name-longer-than-all-others",
        ] {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
    }
}
