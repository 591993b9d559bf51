//! Listings as HTML, JSON and XML, byte for byte as nginx writes them.
//!
//! Names in HTML take fifty columns: characters in UTF-8, else bytes.

use http::output::push_decimal;
use proto::date::Civil;
use proto::uri::{EscapeKind, escape, escape_html, escape_json};

/// Columns of a name in HTML.
const COLUMNS: usize = 50;
/// Columns that are left of a name that is too long, before `..>`.
const SHORTENED: usize = COLUMNS - 3;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub is_dir: bool,
    pub is_file: bool,
    pub mtime: i64,
    pub size: u64,
}

impl Entry {
    fn kind(&self) -> &'static [u8] {
        if self.is_dir {
            b"directory"
        } else if self.is_file {
            b"file"
        } else {
            b"other"
        }
    }
}

/// `autoindex_exact_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    Exact,
    Rounded,
}

/// Appends a page with times shifted by `offset_min` minutes.
pub(super) fn html(
    uri: &[u8],
    entries: &[Entry],
    charset: &[u8],
    offset_min: i32,
    sizes: Sizes,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"<html>\r\n<head><title>Index of ");
    escape_html(uri, out);
    out.extend_from_slice(b"</title></head>\r\n<body>\r\n<h1>Index of ");
    escape_html(uri, out);
    out.extend_from_slice(b"</h1><hr><pre><a href=\"../\">../</a>\r\n");
    let is_utf8 = charset.eq_ignore_ascii_case(b"utf-8");
    for entry in entries {
        html_link(entry, is_utf8.then(|| std::str::from_utf8(&entry.name).ok()).flatten(), out);
        let time = Civil::of(entry.mtime + i64::from(offset_min) * 60);
        let month = MONTHS.get(usize::from(time.month).wrapping_sub(1)).unwrap_or(&"");
        let date = format!(" {:02}-{month}-{} {:02}:{:02} ", time.day, time.year, time.hour, time.minute);
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(size(entry, sizes).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"</pre><hr></body>\r\n</html>\r\n");
}

/// The link and the blanks behind it; `text` is the name where its characters count, not its bytes.
fn html_link(entry: &Entry, text: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<a href=\"");
    escape(&entry.name, EscapeKind::UriComponent, out);
    if entry.is_dir {
        out.push(b'/');
    }
    out.extend_from_slice(b"\">");
    let mut columns = text.map_or(entry.name.len(), |text| text.chars().count());
    if columns > COLUMNS {
        let end = match text {
            Some(text) => text.char_indices().nth(SHORTENED).map_or(text.len(), |(at, _)| at),
            None => SHORTENED,
        };
        escape_html(entry.name.get(..end).unwrap_or(&entry.name), out);
        out.extend_from_slice(b"..&gt;</a>");
        return;
    }
    escape_html(&entry.name, out);
    if entry.is_dir && columns < COLUMNS {
        out.push(b'/');
        columns += 1;
    }
    out.extend_from_slice(b"</a>");
    out.resize(out.len() + COLUMNS - columns, b' ');
}

fn size(entry: &Entry, sizes: Sizes) -> String {
    const K: u64 = 1024;
    let rounded = |unit: u64| entry.size / unit + u64::from(entry.size % unit > unit / 2 - 1);
    match sizes {
        Sizes::Exact if entry.is_dir => format!("{:>19}", '-'),
        Sizes::Exact => format!("{:>19}", entry.size),
        Sizes::Rounded if entry.is_dir => format!("{:>7}", '-'),
        Sizes::Rounded => match entry.size {
            0..=9999 => format!(" {:>6}", entry.size),
            10_000..1_048_576 => format!("{:>6}K", rounded(K)),
            1_048_576..1_073_741_824 => format!("{:>6}M", rounded(K * K)),
            _ => format!("{:>6}G", rounded(K * K * K)),
        },
    }
}

/// Appends an array, as the argument of a call where a callback is named.
pub(super) fn json(entries: &[Entry], callback: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(name) = callback {
        out.extend_from_slice(b"/* callback */\r\n");
        out.extend_from_slice(name);
        out.push(b'(');
    }
    out.push(b'[');
    for (number, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if number > 0 {
            b",\r\n{ \"name\":\""
        } else {
            b"\r\n{ \"name\":\"".as_slice()
        });
        escape_json(&entry.name, out);
        out.extend_from_slice(b"\", \"type\":\"");
        out.extend_from_slice(entry.kind());
        out.extend_from_slice(b"\", \"mtime\":\"");
        out.extend_from_slice(&proto::date::http(entry.mtime));
        out.push(b'"');
        if entry.is_file {
            out.extend_from_slice(b", \"size\":");
            push_decimal(entry.size, out);
        }
        out.extend_from_slice(b" }");
    }
    out.extend_from_slice(b"\r\n]");
    if callback.is_some() {
        out.extend_from_slice(b");");
    }
}

/// Appends a `list` of elements named after the kind of the entry.
pub(super) fn xml(entries: &[Entry], out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version=\"1.0\"?>\r\n<list>\r\n");
    for entry in entries {
        out.push(b'<');
        out.extend_from_slice(entry.kind());
        let t = Civil::of(entry.mtime);
        let date = format!(
            " mtime=\"{:4}-{:02}-{:02}T{:02}:{:02}:{:02}Z\"",
            t.year, t.month, t.day, t.hour, t.minute, t.second
        );
        out.extend_from_slice(date.as_bytes());
        if entry.is_file {
            out.extend_from_slice(b" size=\"");
            push_decimal(entry.size, out);
            out.push(b'"');
        }
        out.push(b'>');
        escape_html(&entry.name, out);
        out.extend_from_slice(b"</");
        out.extend_from_slice(entry.kind());
        out.extend_from_slice(b">\r\n");
    }
    out.extend_from_slice(b"</list>\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> Entry {
        Entry { name: name.as_bytes().to_vec(), is_dir: false, is_file: true, mtime: 784_111_777, size }
    }

    fn dir(name: &str) -> Entry {
        Entry { is_dir: true, is_file: false, ..file(name, 4096) }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn links_fill_their_columns() {
        let check = |entry: &Entry, charset: &str, expected: &str| {
            let page =
                text(|out| html(b"/", std::slice::from_ref(entry), charset.as_bytes(), 0, Sizes::Exact, out));
            let line = page.split("\r\n").nth(4).expect("a line");
            let (link, _) = line.split_once(" 06-Nov-1994").expect("a date");
            assert_eq!(link, expected);
        };
        check(&file("a", 1), "", &format!("<a href=\"a\">a</a>{}", " ".repeat(49)));
        check(&dir("d"), "", &format!("<a href=\"d/\">d/</a>{}", " ".repeat(48)));
        check(&file("<", 1), "", &format!("<a href=\"%3C\">&lt;</a>{}", " ".repeat(49)));
        let (fifty, more) = ("x".repeat(50), "y".repeat(51));
        check(&file(&fifty, 1), "", &format!("<a href=\"{fifty}\">{fifty}</a>"));
        check(&dir(&fifty), "", &format!("<a href=\"{fifty}/\">{fifty}</a>"));
        check(&file(&more, 1), "", &format!("<a href=\"{more}\">{}..&gt;</a>", "y".repeat(47)));
        check(&file("é", 1), "utf-8", &format!("<a href=\"%C3%A9\">é</a>{}", " ".repeat(49)));
        check(&file("é", 1), "", &format!("<a href=\"%C3%A9\">é</a>{}", " ".repeat(48)));
        let long = "é".repeat(51);
        check(
            &file(&long, 1),
            "UTF-8",
            &format!("<a href=\"{}\">{}..&gt;</a>", "%C3%A9".repeat(51), "é".repeat(47)),
        );
    }

    #[test]
    fn sizes() {
        let check = |bytes, exact: &str, rounded: &str| {
            let entry = file("a", bytes);
            assert_eq!(size(&entry, Sizes::Exact), exact);
            assert_eq!(size(&entry, Sizes::Rounded), rounded);
        };
        check(0, "                  0", "      0");
        check(9999, "               9999", "   9999");
        check(10_000, "              10000", "    10K");
        check(1_048_575, "            1048575", "  1024K");
        check(1_572_864, "            1572864", "     2M");
        check(1_572_863, "            1572863", "     1M");
        check(5 << 30, "         5368709120", "     5G");
        assert_eq!(size(&dir("d"), Sizes::Exact), "                  -");
        assert_eq!(size(&dir("d"), Sizes::Rounded), "      -");
    }

    #[test]
    fn structured_formats() {
        let entries = [dir("d\""), file("f&", 5)];
        let other = Entry { is_dir: false, ..dir("o") };
        assert_eq!(
            text(|out| json(&entries, Some(b"cb"), out)),
            "/* callback */\r\ncb([\r\n\
             { \"name\":\"d\\\"\", \"type\":\"directory\", \"mtime\":\"Sun, 06 Nov 1994 08:49:37 GMT\" },\r\n\
             { \"name\":\"f&\", \"type\":\"file\", \"mtime\":\"Sun, 06 Nov 1994 08:49:37 GMT\", \"size\":5 }\r\n\
             ]);"
        );
        assert_eq!(text(|out| json(&[], None, out)), "[\r\n]");
        assert_eq!(
            text(|out| xml(&[dir("d\""), file("f&", 5), other], out)),
            "<?xml version=\"1.0\"?>\r\n<list>\r\n\
             <directory mtime=\"1994-11-06T08:49:37Z\">d&quot;</directory>\r\n\
             <file mtime=\"1994-11-06T08:49:37Z\" size=\"5\">f&amp;</file>\r\n\
             <other mtime=\"1994-11-06T08:49:37Z\">o</other>\r\n\
             </list>\r\n"
        );
        assert!(
            text(|out| html(b"/a<b/", &[], b"", 0, Sizes::Exact, out))
                .contains("<h1>Index of /a&lt;b/</h1><hr><pre>")
        );
    }
}
