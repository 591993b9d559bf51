//! Dates as HTTP, cookies and nginx's logs write them, and as clients send them.
//!
//! Seconds come in from the caller; a time before 1970 is written as 1970, one after 9999 as its last second.

const WEEKDAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAY: i64 = 86_400;
/// The last second of the year 9999.
const LATEST: i64 = 253_402_300_799;

/// A date and time of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 1970 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
}

impl Civil {
    /// The UTC date of `unix` seconds (`ngx_gmtime`).
    #[must_use]
    pub fn of(unix: i64) -> Self {
        let unix = unix.clamp(0, LATEST);
        let (days, rest) = (unix / DAY, unix % DAY);
        // Years begin on the first of March here, so that the leap day is the last one of its year.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: (era * 400 + year_of_era + i64::from(month <= 2)) as u16,
            month: month as u8,
            day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            weekday: ((days + 4) % 7) as u8,
        }
    }

    fn weekday_name(self) -> &'static [u8; 3] {
        WEEKDAYS[usize::from(self.weekday % 7)]
    }

    fn month_name(self) -> &'static [u8; 3] {
        MONTHS[usize::from((self.month + 11) % 12)]
    }

    fn put_time(self, text: &mut [u8]) {
        put2(text, 0, self.hour);
        put2(text, 3, self.minute);
        put2(text, 6, self.second);
    }
}

fn put2(text: &mut [u8], at: usize, value: u8) {
    text[at] = b'0' + value / 10 % 10;
    text[at + 1] = b'0' + value % 10;
}

fn put4(text: &mut [u8], at: usize, value: u16) {
    put2(text, at, (value / 100) as u8);
    put2(text, at + 2, (value % 100) as u8);
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
#[must_use]
pub fn http(unix: i64) -> [u8; 29] {
    let date = Civil::of(unix);
    let mut text = *b"Sun, 00 Jan 0000 00:00:00 GMT";
    text[..3].copy_from_slice(date.weekday_name());
    put2(&mut text, 5, date.day);
    text[8..11].copy_from_slice(date.month_name());
    put4(&mut text, 12, date.year);
    date.put_time(&mut text[17..]);
    text
}

/// Appends `Sun, 06-Nov-94 08:49:37 GMT`, with four digits of the year after 2037 (`ngx_http_cookie_time`).
pub fn cookie(unix: i64, out: &mut Vec<u8>) {
    let date = Civil::of(unix);
    let mut text = *b"Sun, 00-Jan-0000 00:00:00 GMT";
    text[..3].copy_from_slice(date.weekday_name());
    put2(&mut text, 5, date.day);
    text[8..11].copy_from_slice(date.month_name());
    put4(&mut text, 12, date.year);
    date.put_time(&mut text[17..]);
    out.extend_from_slice(&text[..12]);
    out.extend_from_slice(if date.year > 2037 { &text[12..] } else { &text[14..] });
}

/// The local time `offset` minutes east of UTC, and that offset as sign, hours and minutes.
fn local(unix: i64, offset: i32) -> (Civil, u8, u8, u8) {
    let minutes = offset.unsigned_abs();
    let sign = if offset < 0 { b'-' } else { b'+' };
    (Civil::of(unix.saturating_add(i64::from(offset) * 60)), sign, (minutes / 60) as u8, (minutes % 60) as u8)
}

/// `24/Nov/2026:10:00:00 +0000`: `$time_local`, `offset` minutes east of UTC.
#[must_use]
pub fn log(unix: i64, offset: i32) -> [u8; 26] {
    let (date, sign, hours, minutes) = local(unix, offset);
    let mut text = *b"00/Jan/0000:00:00:00 +0000";
    put2(&mut text, 0, date.day);
    text[3..6].copy_from_slice(date.month_name());
    put4(&mut text, 7, date.year);
    date.put_time(&mut text[12..]);
    text[21] = sign;
    put2(&mut text, 22, hours);
    put2(&mut text, 24, minutes);
    text
}

/// `2026-11-24T10:00:00+00:00`: `$time_iso8601`, `offset` minutes east of UTC.
#[must_use]
pub fn iso8601(unix: i64, offset: i32) -> [u8; 25] {
    let (date, sign, hours, minutes) = local(unix, offset);
    let mut text = *b"0000-00-00T00:00:00+00:00";
    put4(&mut text, 0, date.year);
    put2(&mut text, 5, date.month);
    put2(&mut text, 8, date.day);
    date.put_time(&mut text[11..]);
    text[19] = sign;
    put2(&mut text, 20, hours);
    put2(&mut text, 23, minutes);
    text
}

/// `2026/11/24 10:00:00`: what a line of the error log begins with, `offset` minutes east of UTC.
#[must_use]
pub fn error_log(unix: i64, offset: i32) -> [u8; 19] {
    let (date, ..) = local(unix, offset);
    let mut text = *b"0000/00/00 00:00:00";
    put4(&mut text, 0, date.year);
    put2(&mut text, 5, date.month);
    put2(&mut text, 8, date.day);
    date.put_time(&mut text[11..]);
    text
}

/// `Nov  4 10:00:00`: what a syslog message carries (RFC 3164), `offset` minutes east of UTC.
#[must_use]
pub fn syslog(unix: i64, offset: i32) -> [u8; 15] {
    let (date, ..) = local(unix, offset);
    let mut text = *b"Jan 00 00:00:00";
    text[..3].copy_from_slice(date.month_name());
    put2(&mut text, 4, date.day);
    if date.day < 10 {
        text[4] = b' ';
    }
    date.put_time(&mut text[7..]);
    text
}

/// The three forms of a date.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    Rfc1123,
    /// `Sunday, 06-Nov-94 08:49:37 GMT`
    Rfc850,
    /// `Sun Nov  6 08:49:37 1994`
    Asctime,
}

/// What is left of a date.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn literal(&mut self, expected: u8) -> Option<()> {
        (self.byte()? == expected).then_some(())
    }

    fn digit(&mut self) -> Option<i64> {
        let byte = self.byte()?;
        byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
    }

    fn two(&mut self) -> Option<i64> {
        Some(self.digit()? * 10 + self.digit()?)
    }

    fn four(&mut self) -> Option<i64> {
        Some(self.two()? * 100 + self.two()?)
    }

    /// A month from 0; like nginx, no more is looked at than tells the months apart.
    fn month(&mut self) -> Option<usize> {
        let name = [self.byte()?, self.byte()?, self.byte()?];
        Some(match name {
            [b'J', b'a', _] => 0,
            [b'J', _, b'n'] => 5,
            [b'J', ..] => 6,
            [b'F', ..] => 1,
            [b'M', _, b'r'] => 2,
            [b'M', ..] => 4,
            [b'A', b'p', _] => 3,
            [b'A', ..] => 7,
            [b'S', ..] => 8,
            [b'O', ..] => 9,
            [b'N', ..] => 10,
            [b'D', ..] => 11,
            _ => return None,
        })
    }

    /// The day of an asctime date: one digit, perhaps behind a space, or two.
    fn short_day(&mut self) -> Option<i64> {
        if self.0.first() == Some(&b' ') {
            self.byte();
        }
        let day = self.digit()?;
        if self.0.first() == Some(&b' ') { Some(day) } else { Some(day * 10 + self.digit()?) }
    }

    fn time(&mut self) -> Option<i64> {
        self.literal(b' ')?;
        let hour = self.two()?;
        self.literal(b':')?;
        let minute = self.two()?;
        self.literal(b':')?;
        let second = self.two()?;
        (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
    }
}

/// Unix seconds of a date in one of HTTP's three forms (`ngx_parse_http_time`); the name of the day and what
/// follows the time are not looked at.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    parse_fixed(text).or_else(|| parse_any(text))
}

/// The form that all but the oldest programs send, whose parts lie at fixed places; `None` for anything else.
fn parse_fixed(text: &[u8]) -> Option<i64> {
    let text: &[u8; 29] = text.try_into().ok()?;
    let signs = [text[3], text[4], text[7], text[11], text[16], text[19], text[22]];
    if signs != *b",    ::" {
        return None;
    }
    let month = Rest(&text[8..11]).month()?;
    let digit = |at: usize| text[at].wrapping_sub(b'0');
    let mut worst = 0;
    let mut two = |at: usize| {
        worst = worst.max(digit(at)).max(digit(at + 1));
        i64::from(digit(at)) * 10 + i64::from(digit(at + 1))
    };
    let (day, year) = (two(5), two(12) * 100 + two(14));
    let (hour, minute, second) = (two(17), two(20), two(23));
    if worst > 9 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(days(year, month, day)? * DAY + hour * 3600 + minute * 60 + second)
}

fn parse_any(text: &[u8]) -> Option<i64> {
    let comma = text.iter().position(|byte| matches!(byte, b',' | b' '))?;
    let is_asctime = text.get(comma) == Some(&b' ');
    let mut rest = Rest(text.get(comma + 1..)?);
    while rest.0.first() == Some(&b' ') {
        rest.byte();
    }
    let (form, day) = if is_asctime {
        (Form::Asctime, None)
    } else {
        let day = rest.two()?;
        match rest.byte()? {
            b' ' => (Form::Rfc1123, Some(day)),
            b'-' => (Form::Rfc850, Some(day)),
            _ => return None,
        }
    };
    let month = rest.month()?;
    let separator = rest.byte()?;
    let (year, day) = match form {
        Form::Rfc1123 if separator == b' ' => (Some(rest.four()?), day?),
        Form::Rfc850 if separator == b'-' => {
            let year = rest.two()?;
            (Some(if year < 70 { 2000 + year } else { 1900 + year }), day?)
        }
        Form::Asctime => (None, rest.short_day()?),
        _ => return None,
    };
    let time = rest.time()?;
    let year = match year {
        Some(year) => year,
        None => {
            rest.literal(b' ')?;
            rest.four()?
        }
    };
    Some(days(year, month, day)? * DAY + time)
}

/// Days since 1970; `month` counts from 0. Like nginx, a day 00 is the last one of the month before.
fn days(year: i64, month: usize, day: i64) -> Option<i64> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if day > LENGTHS.get(month)? + i64::from(leap && month == 1) {
        return None;
    }
    // Counted from March, as in `Civil::of`.
    let (year, month) = if month < 2 { (year - 1, month as i64 + 10) } else { (year, month as i64 - 2) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("ASCII")
    }

    #[test]
    fn written() {
        let check = |unix, expected| assert_eq!(text(&http(unix)), expected);
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(-5, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT");
        check(i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
        let cookie_text = |unix| {
            let mut out = Vec::new();
            cookie(unix, &mut out);
            String::from_utf8(out).expect("ASCII")
        };
        assert_eq!(cookie_text(784_111_777), "Sun, 06-Nov-94 08:49:37 GMT");
        assert_eq!(cookie_text(2_145_916_799), "Thu, 31-Dec-37 23:59:59 GMT");
        assert_eq!(cookie_text(2_145_916_800), "Fri, 01-Jan-2038 00:00:00 GMT");
    }

    #[test]
    fn local_times() {
        let unix = 1_795_514_400;
        assert_eq!(text(&log(unix, 0)), "24/Nov/2026:10:00:00 +0000");
        assert_eq!(text(&log(unix, -90)), "24/Nov/2026:08:30:00 -0130");
        assert_eq!(text(&iso8601(unix, 0)), "2026-11-24T10:00:00+00:00");
        assert_eq!(text(&iso8601(unix, 345)), "2026-11-24T15:45:00+05:45");
        assert_eq!(text(&error_log(unix, 14 * 60)), "2026/11/25 00:00:00");
        assert_eq!(text(&syslog(unix, 0)), "Nov 24 10:00:00");
        assert_eq!(text(&syslog(784_111_777, 0)), "Nov  6 08:49:37");
    }

    #[test]
    fn every_day_is_read_as_it_is_written() {
        for day in 0..80_000 {
            let unix = day * DAY + day % DAY;
            assert_eq!(parse(&http(unix)), Some(unix));
        }
    }

    #[test]
    fn read() {
        let check = |date: &str, expected| assert_eq!(parse(date.as_bytes()), expected, "{date}");
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Sun Nov 06 08:49:37 1994", Some(784_111_777));
        check("Thu, 01-Jan-70 00:00:00 GMT", Some(0));
        check("Tue, 31-Dec-69 23:59:59 GMT", Some(3_155_759_999));
        check("Sun, 06 Nov 1994 08:49:37", Some(784_111_777));
        check("Sun,06 Nov 1994 08:49:37 EST", Some(784_111_777));
        check("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400));
        check("Wed, 31 Dec 1969 00:00:00 GMT", Some(-DAY));
        for bad in [
            "",
            "0",
            "now",
            "Sun",
            "Sun, ",
            "Sun, 06 Nov 1994",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Xov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:60 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 32 Jan 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Tue, 29 Feb 1900 00:00:00 GMT",
            "Tue, 30 Feb 2000 00:00:00 GMT",
            "Sun Nov  6 08:49:37",
            "Sun Nov  6 08:49:37 94",
        ] {
            check(bad, None);
        }
    }
}
