//! The answer on its way to the client: status, header fields, and what filters need to know of the body.
//!
//! Header fields lie in one buffer in the very form in which they go over the wire, so that an answer that no
//! filter changed is copied to the client in one piece.

use base::Span;
use proto::h1::{Field, Known};

/// One header field of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// The name as it is sent.
    pub name: Span,
    /// The value as it is sent.
    pub value: Span,
    /// Which well-known field it is.
    pub known: Known,
    removed: bool,
}

/// Header fields in wire form (`Name: value\r\n`), in the order in which they are sent.
#[derive(Debug, Default)]
pub struct Headers {
    text: Vec<u8>,
    items: Vec<Item>,
    /// Kinds that are there or were, one bit each.
    kinds: u64,
    removed: usize,
    /// Items lie in another order than their text.
    is_scattered: bool,
}

impl Headers {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.items.clear();
        self.kinds = 0;
        self.removed = 0;
        self.is_scattered = false;
    }

    /// Appends a field.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_known(Known::of(name), name, value);
    }

    /// Appends a field whose [`Known`] is at hand.
    pub fn push_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        self.text.reserve(name.len() + value.len() + 4);
        self.push_with(known, name, |text| text.extend_from_slice(value));
    }

    /// Appends a field of a head as it stands there.
    pub fn push_field(&mut self, field: &Field, head: &[u8]) {
        let Some(line) = field.plain_line() else {
            return self.push_known(field.known, field.name.of(head), field.value.of(head));
        };
        self.text.extend_from_slice(line.of(head));
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let moved = |span: Span| {
            let offset = |at: u32| end - (line.end - at);
            Span { start: offset(span.start), end: offset(span.end) }
        };
        self.enter(field.known, moved(field.name), moved(field.value));
    }

    /// Appends a field whose value is written by `write`.
    pub fn push_with(&mut self, known: Known, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let name_end = self.text.len();
        self.text.extend_from_slice(b": ");
        let value_start = self.text.len();
        write(&mut self.text);
        let value_end = self.text.len();
        self.text.extend_from_slice(b"\r\n");
        self.enter(known, Span::new(start, name_end), Span::new(value_start, value_end));
    }

    /// A field was written.
    fn enter(&mut self, known: Known, name: Span, value: Span) {
        self.kinds |= known.bit();
        self.items.push(Item { name, value, known, removed: false });
    }

    /// The fields that are still there, as name, value and kind.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], Known)> {
        self.live().map(|item| (item.name.of(&self.text), item.value.of(&self.text), item.known))
    }

    fn live(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.removed)
    }

    /// The value of the first field of this kind.
    #[inline]
    #[must_use]
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        if self.may_have(&[known]) { self.find(known) } else { None }
    }

    #[inline(never)]
    fn find(&self, known: Known) -> Option<&[u8]> {
        self.live().find(|item| item.known == known).map(|item| item.value.of(&self.text))
    }

    /// Values of every field with this name, compared without regard to case.
    pub fn by_name<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.live()
            .filter(move |item| item.name.of(&self.text).eq_ignore_ascii_case(name))
            .map(|item| item.value.of(&self.text))
    }

    /// Removes every field of this kind.
    pub fn remove_known(&mut self, known: Known) {
        if self.kinds & known.bit() == 0 {
            return;
        }
        self.remove_where(|_, item_known| item_known == known);
    }

    /// Removes every field for which `is` holds.
    pub fn remove_where(&mut self, is: impl Fn(&[u8], Known) -> bool) {
        for item in &mut self.items {
            if !item.removed && is(item.name.of(&self.text), item.known) {
                item.removed = true;
                self.removed += 1;
            }
        }
    }

    /// Replaces all fields of a kind by one, which takes the place of the first.
    pub fn set_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        let place = self.items.iter().position(|item| !item.removed && item.known == known);
        self.remove_known(known);
        self.push_known(known, name, value);
        if let Some(place) = place
            && let Some(item) = self.items.pop()
        {
            self.items[place] = item;
            self.removed -= 1;
            self.is_scattered = true;
        }
    }

    /// Gives the first field whose name `is_meant` another value and removes the others of them. Says whether
    /// there was any.
    pub fn replace_where(&mut self, is_meant: impl Fn(&[u8]) -> bool, value: &[u8]) -> bool {
        let text = &self.text;
        let is_live = |item: &Item| !item.removed && is_meant(item.name.of(text));
        let Some(place) = self.items.iter().position(is_live) else { return false };
        let (name, known) = (self.items[place].name.of(&self.text).to_vec(), self.items[place].known);
        self.remove_where(|name, _| is_meant(name));
        self.push_known(known, &name, value);
        if let Some(item) = self.items.pop() {
            self.items[place] = item;
            self.removed -= 1;
            self.is_scattered = true;
        }
        true
    }

    /// Whether there is a field of this kind.
    #[inline]
    #[must_use]
    pub fn has(&self, known: Known) -> bool {
        self.known(known).is_some()
    }

    /// Whether there may be a field of one of these kinds, as one that was removed has left its mark.
    #[inline]
    #[must_use]
    pub fn may_have(&self, kinds: &[Known]) -> bool {
        kinds.iter().any(|known| self.kinds & known.bit() != 0)
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len() - self.removed
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends all fields to `out` as they go over the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        if self.removed == 0 && !self.is_scattered {
            out.extend_from_slice(&self.text);
            return;
        }
        for item in self.live() {
            self.write_item(item, out);
        }
    }

    /// As [`Self::write_to`], but for the fields of one kind.
    pub fn write_without(&self, known: Known, out: &mut Vec<u8>) {
        for item in self.live().filter(|item| item.known != known) {
            self.write_item(item, out);
        }
    }

    fn write_item(&self, item: &Item, out: &mut Vec<u8>) {
        let line = item.name.start as usize..item.value.end as usize + 2;
        out.extend_from_slice(self.text.get(line).unwrap_or_default());
    }
}

/// Whether the answer may be cut into ranges by the range filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ranges {
    /// No: the length is not known or a filter changes the body.
    #[default]
    Refused,
    /// Yes: the body is known and stays as it is.
    Allowed,
    /// Yes, with one range only.
    SingleOnly,
    /// As [`Self::SingleOnly`], and of what a subrequest brings too: it is a part of the whole.
    OfPart,
}

/// What is known of `Last-Modified`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Modified {
    #[default]
    Unknown,
    /// Unix seconds.
    At(i64),
    /// What the field says, which most answers are never asked for.
    AsSent,
}

/// The head of the answer, as handlers fill it in and header filters change it.
#[derive(Debug, Default)]
pub struct Response {
    /// Status code; 0 until it is known.
    pub status: u16,
    /// Code and reason as the upstream sent them ("200 Fine"); empty: nginx's own reason.
    pub status_line: Vec<u8>,
    /// All fields that have no field of their own here.
    pub headers: Headers,
    /// `Content-Type` without the charset; empty: none is sent.
    pub content_type: Vec<u8>,
    /// The content type came with its parameters, so that its charset is found in there.
    pub has_type_parameters: bool,
    /// Charset appended to the content type when not empty.
    pub charset: Vec<u8>,
    /// `X-Accel-Charset`: the charset that the upstream wants the answer to have.
    pub charset_override: Option<Vec<u8>>,
    /// Length of the body in bytes, when it is known.
    pub content_length: Option<u64>,
    modified: Modified,
    /// Trailer fields, sent behind a chunked body.
    pub trailers: Headers,
    /// Whether ranges may be served.
    pub ranges: Ranges,
    /// The body begins at this offset of the whole (for ranges of a part that was fetched).
    pub content_offset: u64,
    /// Only the head is sent (HEAD requests, 204, 304).
    pub header_only: bool,
    /// The head has been handed to the output.
    pub head_sent: bool,
    /// `X-Accel-*` and caches: when the answer expires, unix seconds.
    pub expires: Option<i64>,
    /// Disables the not-modified filter for answers of an upstream that decides itself.
    pub disable_not_modified: bool,
    /// No `Server` is written unless there is a field of that name.
    pub omits_server: bool,
    /// No `Date` is written unless there is a field of that name.
    pub omits_date: bool,
    /// The answer depends on `Accept-Encoding`: `gzip_vary` says so.
    pub varies_by_coding: bool,
    /// Whether the client takes gzip, once that was asked for.
    pub takes_gzip: Option<bool>,
    /// The handler expects trailers to follow (keeps chunked framing even for known lengths).
    pub expect_trailers: bool,
}

impl Response {
    /// Makes ready for the next request, keeping memory.
    pub fn reset(&mut self) {
        self.status_line.clear();
        self.headers.clear();
        self.content_type.clear();
        self.has_type_parameters = false;
        self.charset.clear();
        self.charset_override = None;
        self.trailers.clear();
        self.status = 0;
        self.content_length = None;
        self.modified = Modified::Unknown;
        self.ranges = Ranges::Refused;
        self.content_offset = 0;
        self.header_only = false;
        self.head_sent = false;
        self.expires = None;
        self.disable_not_modified = false;
        self.expect_trailers = false;
        self.omits_server = false;
        self.omits_date = false;
        self.varies_by_coding = false;
        self.takes_gzip = None;
    }

    /// `Last-Modified` in unix seconds.
    #[must_use]
    pub fn last_modified(&self) -> Option<i64> {
        match self.modified {
            Modified::Unknown => None,
            Modified::At(seconds) => Some(seconds),
            Modified::AsSent => self.headers.known(Known::LastModified).and_then(proto::date::parse),
        }
    }

    /// Sets what [`Self::last_modified`] says.
    pub fn set_last_modified(&mut self, seconds: Option<i64>) {
        self.modified = seconds.map_or(Modified::Unknown, Modified::At);
    }

    /// Has [`Self::last_modified`] say what its field says.
    #[inline]
    pub fn take_last_modified(&mut self) {
        self.modified = Modified::AsSent;
    }

    /// The content type without its charset, as filters compare it. Other parameters belong to it, as in nginx.
    #[must_use]
    pub fn media_type(&self) -> &[u8] {
        match self.split_type() {
            Some((end, _)) => self.content_type.get(..end).unwrap_or_default(),
            None => &self.content_type,
        }
    }

    /// The charset that the answer has so far: appended to its type, or in what an upstream said of that.
    #[must_use]
    pub fn charset_known(&self) -> Option<&[u8]> {
        if self.charset.is_empty() { self.charset_in_type() } else { Some(&self.charset) }
    }

    /// The charset that stands in the content type, as upstreams write it.
    #[must_use]
    pub fn charset_in_type(&self) -> Option<&[u8]> {
        self.split_type().map(|(_, charset)| charset)
    }

    /// Where the content type ends and what charset follows (`ngx_http_upstream_copy_content_type`).
    fn split_type(&self) -> Option<(usize, &[u8])> {
        if !self.has_type_parameters {
            return None;
        }
        let text = &self.content_type;
        memchr::memchr_iter(b';', text).find_map(|end| {
            let rest = crate::variables::without_spaces(text.get(end + 1..)?);
            let (name, value) = rest.split_at_checked(8)?;
            if !name.eq_ignore_ascii_case(b"charset=") {
                return None;
            }
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            Some((end, value.strip_suffix(b"\"").unwrap_or(value)))
        })
    }

    /// Forgets the length, as a filter must that changes it.
    pub fn clear_content_length(&mut self) {
        self.content_length = None;
        self.headers.remove_known(Known::ContentLength);
    }

    /// Forgets `Accept-Ranges` and forbids ranges (`ngx_http_clear_accept_ranges`).
    pub fn clear_accept_ranges(&mut self) {
        self.ranges = Ranges::Refused;
        self.headers.remove_known(Known::AcceptRanges);
    }

    /// Makes a strong ETag weak, as a filter must that changes the bytes (`ngx_http_weak_etag`).
    pub fn weaken_etag(&mut self) {
        let Some(etag) = self.headers.known(Known::ETag) else { return };
        if etag.starts_with(b"W/") {
            return;
        }
        if !etag.starts_with(b"\"") {
            self.headers.remove_known(Known::ETag);
            return;
        }
        let weak = [b"W/", etag].concat();
        self.headers.set_known(Known::ETag, b"ETag", &weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::h1::{Progress, ResponseHead};

    #[test]
    fn fields_keep_their_order_and_leave_without_a_gap() {
        let mut headers = Headers::default();
        headers.push(b"Server", b"x");
        headers.push(b"X-A", b"1");
        headers.push(b"x-a", b"2");
        assert_eq!(headers.by_name(b"X-A").collect::<Vec<_>>(), [b"1", b"2"]);
        headers.remove_known(Known::Server);
        let mut out = Vec::new();
        headers.write_to(&mut out);
        assert_eq!(out, b"X-A: 1\r\nx-a: 2\r\n");
        assert_eq!(headers.len(), 2);
        assert!(!headers.has(Known::Server));
    }

    #[test]
    fn a_field_is_taken_over_in_one_form() {
        for line in ["X-A: b\r\n", "X-A:b\r\n", "X-A:  b \r\n", "X-A: b\n"] {
            let text = format!("HTTP/1.1 200 OK\r\nfirst: line\r\n{line}\r\n");
            let mut head = ResponseHead::default();
            assert_eq!(head.parse(text.as_bytes(), 4096, 10), Ok(Progress::Complete), "{line:?}");
            let mut headers = Headers::default();
            headers.push(b"Y", b"z");
            headers.push_field(head.fields.get(1).expect("a field"), text.as_bytes());
            let mut out = Vec::new();
            headers.write_to(&mut out);
            assert_eq!(out.escape_ascii().to_string(), "Y: z\\r\\nX-A: b\\r\\n", "{line:?}");
            assert!(headers.iter().last() == Some((&b"X-A"[..], &b"b"[..], Known::Other)), "{line:?}");
        }
    }

    #[test]
    fn a_field_is_replaced_in_its_place() {
        let mut headers = Headers::default();
        for (name, value) in [("X-A", "1"), ("ETag", "a"), ("X-B", "2"), ("ETag", "b")] {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        headers.set_known(Known::ETag, b"etag", b"c");
        headers.set_known(Known::Link, b"Link", b"d");
        assert!(headers.replace_where(|name| name.eq_ignore_ascii_case(b"x-b"), b"3"));
        assert!(!headers.replace_where(|name| name == b"X-C", b"3"));
        let mut out = Vec::new();
        headers.write_to(&mut out);
        assert_eq!(out, b"X-A: 1\r\netag: c\r\nX-B: 3\r\nLink: d\r\n");
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn the_charset_of_an_upstream_is_no_part_of_the_type() {
        let check = |text: &str, kind: &str, charset: Option<&str>| {
            let content_type = text.as_bytes().to_vec();
            let response = Response { content_type, has_type_parameters: true, ..Response::default() };
            assert_eq!(response.media_type(), kind.as_bytes(), "{text}");
            assert_eq!(response.charset_in_type(), charset.map(str::as_bytes), "{text}");
        };
        check("text/html", "text/html", None);
        check("text/html; charset=utf-8", "text/html", Some("utf-8"));
        check("text/html;CHARSET=\"x\"", "text/html", Some("x"));
        check("text/html; a=b", "text/html; a=b", None);
        check("text/html; a=b; charset=x", "text/html; a=b", Some("x"));
        check("text/html; ", "text/html; ", None);
    }

    #[test]
    fn only_a_quoted_etag_becomes_weak() {
        let check = |etag: &str, expected: Option<&str>| {
            let mut response = Response::default();
            response.headers.push(b"ETag", etag.as_bytes());
            response.weaken_etag();
            assert_eq!(response.headers.known(Known::ETag), expected.map(str::as_bytes), "{etag}");
        };
        check("\"a\"", Some("W/\"a\""));
        check("W/\"a\"", Some("W/\"a\""));
        check("a", None);
    }
}
