//! Times as variables and logs show them.
//!
//! The texts of a second are made once per second and thread, as nginx's cached times are.

use std::cell::RefCell;

use crate::output::push_decimal;

struct Texts {
    second: i64,
    local: [u8; 26],
    iso8601: [u8; 25],
}

thread_local! {
    static TEXTS: RefCell<Texts> =
        const { RefCell::new(Texts { second: i64::MIN, local: [0; 26], iso8601: [0; 25] }) };
}

fn with_texts(act: impl FnOnce(&Texts)) {
    let (second, _) = net::timer::wall_clock();
    TEXTS.with_borrow_mut(|texts| {
        if texts.second != second {
            let offset = os::clock::local_offset_min(second);
            *texts = Texts {
                second,
                local: proto::date::log(second, offset),
                iso8601: proto::date::iso8601(second, offset),
            };
        }
        act(texts);
    });
}

/// Appends the local time as `24/Nov/2026:10:00:00 +0000` (`$time_local`).
pub fn push_time_local(out: &mut Vec<u8>) {
    with_texts(|texts| out.extend_from_slice(&texts.local));
}

/// Appends the local time as `2026-11-24T10:00:00+00:00` (`$time_iso8601`).
pub fn push_time_iso8601(out: &mut Vec<u8>) {
    with_texts(|texts| out.extend_from_slice(&texts.iso8601));
}

/// Appends the local time as `2026-11-24T10:00:00.123+00:00` (`$time_iso8601_ms`).
pub fn push_time_iso8601_ms(out: &mut Vec<u8>) {
    let (second, millis) = net::timer::wall_clock();
    let text = proto::date::iso8601(second, os::clock::local_offset_min(second));
    let (time, offset) = text.split_at(text.len() - b"+00:00".len());
    out.extend_from_slice(time);
    push_fraction(u64::from(millis), out);
    out.extend_from_slice(offset);
}

/// Appends the time as seconds and milliseconds since 1970 (`$msec`).
pub fn push_msec(out: &mut Vec<u8>) {
    let (seconds, millis) = net::timer::wall_clock();
    push_decimal(seconds.unsigned_abs(), out);
    push_fraction(u64::from(millis), out);
}

/// Appends milliseconds as seconds with three decimals: `1.250`.
pub fn push_seconds(millis: u64, out: &mut Vec<u8>) {
    push_decimal(millis / 1000, out);
    push_fraction(millis % 1000, out);
}

fn push_fraction(millis: u64, out: &mut Vec<u8>) {
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or(0);
    out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds() {
        let check = |millis, expected: &str| {
            let mut out = Vec::new();
            push_seconds(millis, &mut out);
            assert_eq!(out, expected.as_bytes());
        };
        check(0, "0.000");
        check(7, "0.007");
        check(1250, "1.250");
        check(60_000, "60.000");
    }

    #[test]
    fn texts_have_their_lengths() {
        let (mut local, mut iso, mut msec, mut iso_ms) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        push_time_local(&mut local);
        push_time_iso8601(&mut iso);
        push_msec(&mut msec);
        push_time_iso8601_ms(&mut iso_ms);
        assert_eq!((local.len(), iso.len(), iso_ms.len()), (26, 25, 29));
        assert_eq!(iso_ms.get(19), Some(&b'.'));
        assert_eq!(msec.iter().position(|byte| *byte == b'.'), Some(msec.len() - 4));
    }
}
