//! Escaping and unescaping for URIs, HTML and JSON: the tables of `ngx_escape_uri` and its kin.
//!
//! Each kind names the bytes that are escaped; what stays differs between kinds in ways that clients notice.

/// What the escaped text is for; each kind has its own set of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscapeKind {
    /// A path: space, `"#%<>?\^` and so on (`NGX_ESCAPE_URI`).
    Uri,
    /// One argument: also `&`, `+` and `;` (`NGX_ESCAPE_ARGS`).
    Args,
    /// All but letters, digits and `-._~` (`NGX_ESCAPE_URI_COMPONENT`).
    UriComponent,
    /// A link in HTML: `?` stays, `'` goes (`NGX_ESCAPE_HTML`).
    Html,
    /// A Refresh or Location that a page holds: `%` and `#` stay (`NGX_ESCAPE_REFRESH`).
    Refresh,
    /// A memcached key: controls, space and `%` (`NGX_ESCAPE_MEMCACHED`).
    Memcached,
    /// An SMTP xtext (RFC 3461), with `+` in the place of `%` (`NGX_ESCAPE_MAIL_XTEXT`).
    MailXtext,
}

/// Which bytes a kind escapes.
const fn escapes(kind: EscapeKind, byte: u8) -> bool {
    let outside = byte <= b' ' || byte >= 0x7f;
    // What RFC 3986 allows nowhere in a URI.
    let never = outside || matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
    match kind {
        EscapeKind::Uri => never || matches!(byte, b'#' | b'%' | b'?'),
        EscapeKind::Args => never || matches!(byte, b'#' | b'%' | b'?' | b'&' | b'+' | b';'),
        EscapeKind::UriComponent => {
            !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
        }
        EscapeKind::Html => never || matches!(byte, b'#' | b'%' | b'\''),
        // nginx's own table: `}` stays where `~` goes.
        EscapeKind::Refresh => (never && byte != b'}') || matches!(byte, b'\'' | b'~'),
        EscapeKind::Memcached => byte <= b' ' || byte == b'%',
        EscapeKind::MailXtext => outside || matches!(byte, b'+' | b'='),
    }
}

const KINDS: [EscapeKind; 7] = [
    EscapeKind::Uri,
    EscapeKind::Args,
    EscapeKind::UriComponent,
    EscapeKind::Html,
    EscapeKind::Refresh,
    EscapeKind::Memcached,
    EscapeKind::MailXtext,
];

static TABLES: [[bool; 256]; KINDS.len()] = {
    let mut tables = [[false; 256]; KINDS.len()];
    let mut kind = 0;
    while kind < KINDS.len() {
        let mut byte = 0;
        while byte < 256 {
            tables[KINDS[kind] as usize][byte] = escapes(KINDS[kind], byte as u8);
            byte += 1;
        }
        kind += 1;
    }
    tables
};

/// Appends `text` to `out` with the bytes of `kind` escaped (`ngx_escape_uri`).
pub fn escape(text: &[u8], kind: EscapeKind, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let table = &TABLES[kind as usize];
    let prefix = if kind == EscapeKind::MailXtext { b'+' } else { b'%' };
    out.reserve(text.len());
    for &byte in text {
        if table[byte as usize] {
            out.extend_from_slice(&[prefix, HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
    }
}

/// How long `text` becomes when it is escaped, in bytes; the same as before where nothing needs it.
#[must_use]
pub fn escaped_len(text: &[u8], kind: EscapeKind) -> usize {
    let table = &TABLES[kind as usize];
    text.len() + 2 * text.iter().filter(|byte| table[**byte as usize]).count()
}

/// How far unescaping goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unescape {
    /// All of the text.
    #[default]
    All,
    /// Up to a `?`, which is kept; what follows it is dropped (`NGX_UNESCAPE_URI`).
    Uri,
    /// As `Uri`, and bytes that would have to be escaped again stay as they are (`NGX_UNESCAPE_REDIRECT`).
    Redirect,
}

/// Appends `text` to `out` with `%XX` decoded; returns how many bytes of `text` were read.
///
/// Follows `ngx_unescape_uri` in what it makes of broken escapes: the `%`, and a second digit that is none, vanish.
pub fn unescape(text: &[u8], mode: Unescape, out: &mut Vec<u8>) -> usize {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte == b'?' && mode != Unescape::All {
            out.push(byte);
            return at;
        }
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let Some(high) = digit(at) else {
            // The byte behind a broken escape is kept, even another `%`, which then begins none.
            out.extend(text.get(at));
            at += 1;
            continue;
        };
        let low = digit(at + 1);
        at = text.len().min(at + 2);
        let Some(low) = low else { continue };
        let decoded = (high << 4 | low) as u8;
        if mode != Unescape::All && decoded == b'?' {
            out.push(decoded);
            return at;
        }
        if mode == Unescape::Redirect && !(decoded > b'%' && decoded < 0x7f) {
            out.extend_from_slice(text.get(at - 3..at).unwrap_or_default());
            continue;
        }
        out.push(decoded);
    }
    text.len()
}

/// Appends `text` with `<`, `>`, `&` and `"` as entities (`ngx_escape_html`).
pub fn escape_html(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            _ => out.push(byte),
        }
    }
}

/// Appends `text` as the inside of a JSON string (`ngx_escape_json`); bytes above 127 stay as they are.
pub fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        let short = match byte {
            b'\\' | b'"' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The printable bytes that a kind escapes.
    fn printable(kind: EscapeKind) -> String {
        (b' '..0x7f).filter(|byte| TABLES[kind as usize][*byte as usize]).map(char::from).collect()
    }

    #[test]
    fn tables() {
        for (index, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(index, kind as usize);
            assert!((0..b' ').all(|byte| escapes(kind, byte)));
            let high = kind != EscapeKind::Memcached;
            assert!((0x7f..=0xff).all(|byte| escapes(kind, byte) == high));
        }
        let check = |kind, expected: &str| assert_eq!(printable(kind), expected);
        check(EscapeKind::Uri, " \"#%<>?\\^`{|}");
        check(EscapeKind::Args, " \"#%&+;<>?\\^`{|}");
        check(EscapeKind::UriComponent, " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}");
        check(EscapeKind::Html, " \"#%'<>\\^`{|}");
        check(EscapeKind::Memcached, " %");
        check(EscapeKind::MailXtext, " +=");
    }

    #[test]
    fn escaping() {
        let check = |text: &str, kind, expected: &str| {
            let mut out = Vec::new();
            escape(text.as_bytes(), kind, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{text}");
            assert_eq!(escaped_len(text.as_bytes(), kind), out.len());
        };
        check("/a b?c%", EscapeKind::Uri, "/a%20b%3Fc%25");
        check("a&b", EscapeKind::Args, "a%26b");
        check("\u{e9}/", EscapeKind::UriComponent, "%C3%A9%2F");
        check("a=b", EscapeKind::MailXtext, "a+3Db");
    }

    #[test]
    fn unescaping() {
        let check = |text: &str, mode, expected: &str, read| {
            let mut out = Vec::new();
            assert_eq!(unescape(text.as_bytes(), mode, &mut out), read, "{text}");
            assert_eq!(String::from_utf8_lossy(&out), expected, "{text}");
        };
        check("a%20b%3Fc", Unescape::All, "a b?c", 9);
        check("a%20b?c%20", Unescape::All, "a b?c ", 10);
        check("a%20b?c", Unescape::Uri, "a b?", 6);
        check("a%3Fc", Unescape::Uri, "a?", 4);
        check("a%2fb%20%25%7e", Unescape::Redirect, "a/b%20%25~", 14);
        check("%zz", Unescape::All, "zz", 3);
        check("%4z1", Unescape::All, "1", 4);
        check("%%41", Unescape::All, "%41", 4);
        check("a%", Unescape::All, "a", 2);
        check("a%4", Unescape::All, "a", 3);
    }

    #[test]
    fn html_and_json() {
        let mut out = Vec::new();
        escape_html(b"<a href=\"b\">&'", &mut out);
        assert_eq!(out, b"&lt;a href=&quot;b&quot;&gt;&amp;'");
        out.clear();
        escape_json(b"a\"\\\n\r\t\x08\x0c\x01\x1f/\x7f\xff", &mut out);
        assert_eq!(out, b"a\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u001F/\x7f\xff");
    }
}
