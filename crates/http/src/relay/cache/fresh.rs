//! What the head of an answer says of being kept: whether, for how long, for whom
//! (`ngx_http_upstream_process_cache_control` and its neighbours).

use cache::Meta;
use proto::h1::{Known, ResponseHead};

use crate::relay::settings::ignore;

/// Longest `Vary` of an answer that is kept, as in nginx.
const VARY_MAX: usize = 128;
/// Longest `ETag` that is remembered, as in nginx.
const ETAG_MAX: usize = 128;

/// What a head says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The answer is not to be kept.
    pub is_refused: bool,
    /// What is known of the entry that it makes; `valid_until` is zero where it does not say.
    pub meta: Meta,
}

/// How far the fields were read. The order in which they stand matters, as in nginx.
struct Reading {
    now: i64,
    ignored: u32,
    is_refused: bool,
    no_cache: bool,
    is_expired: bool,
    has_accel_expires: bool,
    has_expires: bool,
    meta: Meta,
}

/// Reads the fields of a head; `ignored` are those of `*_ignore_headers`.
pub(super) fn judge(head: &ResponseHead, text: &[u8], ignored: u32, now: i64) -> Verdict {
    let mut reading = Reading {
        now,
        ignored,
        is_refused: false,
        no_cache: false,
        is_expired: false,
        has_accel_expires: false,
        has_expires: false,
        meta: Meta { date: now, ..Meta::default() },
    };
    for field in &head.fields {
        reading.read(field.known, field.value.of(text));
    }
    let is_kept_by_time = matches!(head.status, 200 | 206);
    let mut meta = reading.meta;
    if is_kept_by_time {
        meta.last_modified = head.fields.value(Known::LastModified, text).and_then(proto::date::parse);
        let etag = head.fields.value(Known::ETag, text).unwrap_or_default();
        if etag.len() <= ETAG_MAX {
            meta.etag = etag.to_vec();
        }
    }
    let is_refused =
        reading.is_refused || reading.no_cache || reading.is_expired || meta.vary.len() > VARY_MAX;
    Verdict { is_refused, meta }
}

impl Reading {
    fn obeys(&self, bit: u32) -> bool {
        self.ignored & bit == 0
    }

    fn read(&mut self, known: Known, value: &[u8]) {
        match known {
            Known::SetCookie if self.obeys(ignore::SET_COOKIE) => self.is_refused = true,
            Known::CacheControl if self.obeys(ignore::CACHE_CONTROL) => self.cache_control(value),
            Known::Expires if !std::mem::replace(&mut self.has_expires, true) => self.expires(value),
            Known::XAccelExpires if !std::mem::replace(&mut self.has_accel_expires, true) => {
                self.accel_expires(value);
            }
            Known::Vary if self.obeys(ignore::VARY) => self.vary(value),
            _ => {}
        }
    }

    fn cache_control(&mut self, value: &[u8]) {
        let lower = value.to_ascii_lowercase();
        let behind = |name: &str| {
            memchr::memmem::find(&lower, name.as_bytes()).and_then(|at| lower.get(at + name.len()..))
        };
        if self.meta.valid_until == 0 || !self.has_accel_expires {
            if behind("no-cache").or_else(|| behind("no-store")).or_else(|| behind("private")).is_some() {
                self.no_cache = true;
                return;
            }
            match behind("s-maxage=").or_else(|| behind("max-age=")).map(delta_seconds) {
                None => {}
                Some(None) => {
                    self.is_refused = true;
                    return;
                }
                Some(Some(0)) => {
                    self.no_cache = true;
                    return;
                }
                Some(Some(seconds)) => {
                    self.meta.valid_until = self.now.saturating_add(seconds);
                    self.is_expired = false;
                }
            }
        }
        match behind("stale-while-revalidate=").map(delta_seconds) {
            None => {}
            Some(None) => {
                self.is_refused = true;
                return;
            }
            Some(Some(seconds)) => {
                self.meta.updating_s = seconds;
                self.meta.error_s = seconds;
            }
        }
        match behind("stale-if-error=").map(delta_seconds) {
            None => {}
            Some(None) => self.is_refused = true,
            Some(Some(seconds)) => self.meta.error_s = seconds,
        }
    }

    fn expires(&mut self, value: &[u8]) {
        if !self.obeys(ignore::EXPIRES) || self.meta.valid_until != 0 {
            return;
        }
        match proto::date::parse(value).filter(|time| *time >= self.now) {
            Some(time) => self.meta.valid_until = time,
            None => self.is_expired = true,
        }
    }

    fn accel_expires(&mut self, value: &[u8]) {
        if !self.obeys(ignore::XA_EXPIRES) {
            return;
        }
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(decimal);
        let until = match value.strip_prefix(b"@") {
            Some(time) => number(time),
            None => match number(value) {
                Some(0) => {
                    self.is_refused = true;
                    None
                }
                seconds => seconds.map(|seconds| self.now.saturating_add(seconds)),
            },
        };
        if let Some(until) = until {
            self.meta.valid_until = until;
            self.no_cache = false;
            self.is_expired = false;
        }
    }

    fn vary(&mut self, value: &[u8]) {
        if value == b"*" {
            self.is_refused = true;
        }
        if !self.meta.vary.is_empty() {
            self.meta.vary.extend_from_slice(b", ");
        }
        self.meta.vary.extend_from_slice(value);
    }
}

/// A number without a sign (`ngx_atoi`).
fn decimal(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Seconds of a directive of `Cache-Control`, the largest number where they are too many; `None` where they are no
/// number.
fn delta_seconds(text: &[u8]) -> Option<i64> {
    let digits = text.split(|byte| matches!(byte, b',' | b';' | b' ')).next().unwrap_or_default();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: i64, digit: &u8| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(fields: &str, ignored: u32) -> Verdict {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        let mut head = ResponseHead::default();
        head.parse(text.as_bytes(), 65536, 100).expect("a head");
        judge(&head, text.as_bytes(), ignored, 1000)
    }

    #[test]
    fn times_come_from_where_nginx_takes_them() {
        // None: not to be kept; 0: the head does not say.
        let check = |fields: &str, expected: Option<i64>| {
            let seen = verdict(fields, 0);
            assert_eq!((!seen.is_refused).then_some(seen.meta.valid_until), expected, "{fields}");
        };
        check("A: b", Some(0));
        check("Cache-Control: max-age=10", Some(1010));
        check("Cache-Control: max-age=10, s-maxage=20", Some(1020));
        check("Cache-Control: public;max-age=10;x", Some(1010));
        check("Cache-Control: max-age=0", None);
        check("Cache-Control: max-age=x", None);
        check("Cache-Control: max-age=99999999999999999999", Some(i64::MAX));
        check("Cache-Control: No-Cache", None);
        check("Cache-Control: no-store", None);
        check("Cache-Control: private", None);
        check("Cache-Control: max-age=5\r\nCache-Control: private", None);
        check("Expires: Thu, 01 Jan 1970 00:20:00 GMT", Some(1200));
        check("Expires: Thu, 01 Jan 1970 00:00:01 GMT", None);
        check("Expires: 0", None);
        check("Expires: 0\r\nCache-Control: max-age=5", Some(1005));
        check("Cache-Control: max-age=5\r\nExpires: 0", Some(1005));
        check("X-Accel-Expires: 7", Some(1007));
        check("X-Accel-Expires: @2000", Some(2000));
        check("X-Accel-Expires: 0", None);
        check("X-Accel-Expires: x", Some(0));
        check("X-Accel-Expires: 7\r\nCache-Control: no-cache", Some(1007));
        check("Cache-Control: no-cache\r\nX-Accel-Expires: 7", Some(1007));
        check("Set-Cookie: a=b", None);
        check("Vary: *", None);
        check("Vary: a, *", Some(0));
    }

    #[test]
    fn fields_may_be_ignored() {
        let check = |fields: &str, ignored, expected| {
            assert_eq!(verdict(fields, ignored).is_refused, expected, "{fields}");
        };
        check("Set-Cookie: a=b", ignore::SET_COOKIE, false);
        check("Cache-Control: no-store", ignore::CACHE_CONTROL, false);
        check("Expires: 0", ignore::EXPIRES, false);
        check("X-Accel-Expires: 0", ignore::XA_EXPIRES, false);
        check("Vary: *", ignore::VARY, false);
        check("Vary: *", ignore::SET_COOKIE, true);
    }

    #[test]
    fn stale_times_and_particulars() {
        let meta = verdict(
            "Cache-Control: max-age=1, stale-while-revalidate=5, stale-if-error=9\r\nVary: A\r\nVary: b\r\n\
             ETag: \"x\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:05 GMT",
            0,
        )
        .meta;
        assert_eq!((meta.updating_s, meta.error_s), (5, 9));
        assert_eq!((&*meta.vary, &*meta.etag, meta.last_modified), (&b"A, b"[..], &b"\"x\""[..], Some(5)));
        let meta = verdict("Cache-Control: stale-while-revalidate=5", 0).meta;
        assert_eq!((meta.updating_s, meta.error_s), (5, 5));
    }
}
