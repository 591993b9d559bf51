//! `ngx_http_not_modified_filter_module`: answers 304 or 412 where the client's conditions say so.
//!
//! Only an answer of 200 is looked at, and dates only where the answer has a `Last-Modified`.

use http::conf::Location;
use http::conf::core::IfModifiedSince;
use http::filters::{Answers, Filtered, HeaderFilter};
use http::module::{Module, Registry, Slot};
use http::phases::Outcome;
use http::request::Request;
use proto::h1::Known;

/// `ngx_http_not_modified_filter_module`.
pub struct NotModified;

static SLOT: Slot = Slot::new();

impl Module for NotModified {
    const NAME: &'static str = "ngx_http_not_modified_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Send,
    NotModified,
    PreconditionFailed,
}

/// The conditions of a request and what they are held against.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions<'a> {
    if_unmodified_since: Option<&'a [u8]>,
    if_match: Option<&'a [u8]>,
    if_modified_since: Option<&'a [u8]>,
    if_none_match: Option<&'a [u8]>,
    last_modified: Option<i64>,
    etag: Option<&'a [u8]>,
    compare: IfModifiedSince,
}

impl HeaderFilter for NotModified {
    fn answers(&self, _: &Location) -> Answers {
        Answers::Comparable
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        if r.response.status != 200 || r.is_subrequest || r.response.disable_not_modified {
            return Filtered::Next;
        }
        let conditions = Conditions {
            if_unmodified_since: r.header(Known::IfUnmodifiedSince),
            if_match: r.header(Known::IfMatch),
            if_modified_since: r.header(Known::IfModifiedSince),
            if_none_match: r.header(Known::IfNoneMatch),
            last_modified: r.response.last_modified(),
            etag: r.response.headers.known(Known::ETag),
            compare: r.location().core.if_modified_since,
        };
        match conditions.verdict() {
            Verdict::Send => Filtered::Next,
            Verdict::PreconditionFailed => {
                r.response.reset();
                Filtered::Instead(Outcome::Status(412))
            }
            Verdict::NotModified => {
                let response = &mut r.response;
                response.status = 304;
                response.status_line.clear();
                response.content_type.clear();
                response.clear_content_length();
                response.clear_accept_ranges();
                response.headers.remove_known(Known::ContentEncoding);
                Filtered::Next
            }
        }
    }
}

impl Conditions<'_> {
    fn verdict(&self) -> Verdict {
        if let Some(date) = self.if_unmodified_since
            && !self.is_unmodified_since(date)
        {
            return Verdict::PreconditionFailed;
        }
        if let Some(list) = self.if_match
            && !matches(list, self.etag, Comparison::Strong)
        {
            return Verdict::PreconditionFailed;
        }
        if self.if_modified_since.is_none() && self.if_none_match.is_none() {
            return Verdict::Send;
        }
        if self.if_modified_since.is_some_and(|date| self.is_modified_since(date))
            || self.if_none_match.is_some_and(|list| !matches(list, self.etag, Comparison::Weak))
        {
            return Verdict::Send;
        }
        Verdict::NotModified
    }

    fn is_unmodified_since(&self, date: &[u8]) -> bool {
        // A date that cannot be read is -1, and so earlier than any other.
        self.last_modified.is_some_and(|modified| proto::date::parse(date).unwrap_or(-1) >= modified)
    }

    fn is_modified_since(&self, date: &[u8]) -> bool {
        let Some(modified) = self.last_modified else { return true };
        let since = proto::date::parse(date).unwrap_or(-1);
        match self.compare {
            IfModifiedSince::Off => true,
            IfModifiedSince::Exact => since != modified,
            IfModifiedSince::Before => since < modified,
        }
    }
}

/// Whether `W/` counts (RFC 9110, 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

fn without_weakness(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"W/").filter(|rest| !rest.is_empty()).unwrap_or(text)
}

fn skip<'a>(text: &'a [u8], skipped: &[u8]) -> &'a [u8] {
    let count = text.iter().take_while(|byte| skipped.contains(byte)).count();
    &text[count..]
}

/// Whether the list names the ETag (`ngx_http_test_if_match`).
fn matches(list: &[u8], etag: Option<&[u8]>, comparison: Comparison) -> bool {
    if list == b"*" {
        return true;
    }
    let Some(mut etag) = etag else { return false };
    if comparison == Comparison::Weak {
        etag = without_weakness(etag);
    }
    let mut rest = list;
    while !rest.is_empty() {
        if comparison == Comparison::Weak {
            rest = without_weakness(rest);
        }
        if etag.len() > rest.len() {
            return false;
        }
        if let Some(after) = rest.strip_prefix(etag) {
            rest = skip(after, b" \t");
            if matches!(rest.first(), None | Some(b',')) {
                return true;
            }
        }
        let comma = memchr::memchr(b',', rest).unwrap_or(rest.len());
        rest = skip(&rest[comma..], b" \t,");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_etags() {
        let check = |list: &str, etag: &str, strong, weak| {
            let is = |comparison| matches(list.as_bytes(), Some(etag.as_bytes()), comparison);
            assert_eq!((is(Comparison::Strong), is(Comparison::Weak)), (strong, weak), "{list} {etag}");
        };
        check("*", "\"a\"", true, true);
        check("\"a\"", "\"a\"", true, true);
        check("W/\"a\"", "\"a\"", false, true);
        check("\"a\"", "W/\"a\"", false, true);
        check("W/\"a\"", "W/\"a\"", true, true);
        check("\"b\", \"a\"", "\"a\"", true, true);
        check("\"b\" ,\t\"a\" ", "\"a\"", true, true);
        check("\"b\",, W/\"a\" , \"c\"", "\"a\"", false, true);
        check("\"a\"b", "\"a\"", false, false);
        check("\"a", "\"a\"", false, false);
        check("", "\"a\"", false, false);
        assert!(matches(b"*", None, Comparison::Strong));
        assert!(!matches(b"\"a\"", None, Comparison::Weak));
    }

    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const TIME: i64 = 784_111_777;

    #[test]
    fn dates() {
        let check = |modified, compare, unmodified: Verdict, since: Verdict| {
            let base = Conditions { last_modified: modified, compare, ..Conditions::default() };
            let ius = Conditions { if_unmodified_since: Some(DATE), ..base };
            let ims = Conditions { if_modified_since: Some(DATE), ..base };
            assert_eq!((ius.verdict(), ims.verdict()), (unmodified, since), "{modified:?} {compare:?}");
        };
        use IfModifiedSince::{Before, Exact, Off};
        use Verdict::{NotModified, PreconditionFailed, Send};
        check(Some(TIME), Exact, Send, NotModified);
        check(Some(TIME - 1), Exact, Send, Send);
        check(Some(TIME + 1), Exact, PreconditionFailed, Send);
        check(Some(TIME - 1), Before, Send, NotModified);
        check(Some(TIME + 1), Before, PreconditionFailed, Send);
        check(Some(TIME), Off, Send, Send);
        check(None, Exact, PreconditionFailed, Send);
    }

    #[test]
    fn both_conditions_must_agree() {
        let check = |date: &str, list: &str, expected| {
            let conditions = Conditions {
                if_modified_since: Some(date.as_bytes()),
                if_none_match: Some(list.as_bytes()),
                last_modified: Some(TIME),
                etag: Some(b"\"a\""),
                ..Conditions::default()
            };
            assert_eq!(conditions.verdict(), expected, "{date} {list}");
        };
        let date = std::str::from_utf8(DATE).expect("ASCII");
        check(date, "\"a\"", Verdict::NotModified);
        check(date, "\"b\"", Verdict::Send);
        check("never", "\"a\"", Verdict::Send);
    }
}
