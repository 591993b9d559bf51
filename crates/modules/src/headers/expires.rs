//! `expires`: how long an answer may be kept, as `Expires` and `Cache-Control`.
//!
//! A value with variables that turns out to be nonsense adds nothing.

use conf::{Directive, Error};
use http::conf::compile::Cx;
use http::request::Request;
use http::variables::Template;
use proto::h1::Known;

use super::Headers;

const DAY: i64 = 86_400;

/// The directive as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ExpiresConf {
    /// `off`.
    #[default]
    Off,
    /// A value without variables.
    Fixed(Expires),
    /// A value with variables, counted from this.
    Computed(Template, From),
}

/// What a time is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The time of the request.
    Access,
    /// The file's last modification (`modified`).
    Modified,
}

/// When an answer expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expires {
    /// It was never fresh (`epoch`).
    Epoch,
    /// In ten years (`max`).
    Max,
    /// So many seconds after a time.
    After(From, i64),
    /// At this second of the local day (`@`).
    Daily(i64),
}

impl ExpiresConf {
    pub(super) fn read(cx: &mut Cx<'_>, d: &Directive) -> Result<Self, Error> {
        let (word, from) = match &*d.args {
            [word] => (word, From::Access),
            [first, word] if first.is("modified") => (word, From::Modified),
            _ => return Err(Error::on(d, "invalid value")),
        };
        if Template::has_variables(&word.bytes) {
            return Ok(Self::Computed(Template::compile(cx, word)?, from));
        }
        match parse(&word.bytes, from) {
            Ok(Some(expires)) => Ok(Self::Fixed(expires)),
            Ok(None) => Ok(Self::Off),
            Err(verdict) => Err(Error::on(d, verdict)),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// Reads a value; `None` is `off` (`ngx_http_parse_expires`).
fn parse(value: &[u8], from: From) -> Result<Option<Expires>, &'static str> {
    if from == From::Access {
        match value {
            b"epoch" => return Ok(Some(Expires::Epoch)),
            b"max" => return Ok(Some(Expires::Max)),
            b"off" => return Ok(None),
            _ => {}
        }
    }
    let (sign, digits) = match value {
        [sign @ (b'@' | b'+' | b'-'), rest @ ..] => (*sign, rest),
        _ => (b'+', value),
    };
    if sign == b'@' && from == From::Modified {
        return Err("daily time cannot be used with \"modified\" parameter");
    }
    let seconds = base::parse_time_sec(digits).ok().and_then(|seconds| i64::try_from(seconds).ok());
    let seconds = seconds.ok_or("invalid value")?;
    match sign {
        b'@' if seconds > DAY => Err("daily time value must be less than 24 hours"),
        b'@' => Ok(Some(Expires::Daily(seconds))),
        b'-' => Ok(Some(Expires::After(from, -seconds))),
        _ => Ok(Some(Expires::After(from, seconds))),
    }
}

/// Sets the two fields (`ngx_http_set_expires`).
pub(super) fn apply(r: &mut Request) {
    let expires = match &r.location().settings::<Headers>().expires {
        ExpiresConf::Off => return,
        ExpiresConf::Fixed(expires) => *expires,
        ExpiresConf::Computed(template, from) => match parse(&template.value(r), *from) {
            Ok(Some(expires)) => expires,
            _ => return,
        },
    };
    let now = os::clock::realtime_coarse().0;
    let next_day_time = |second| next_time(now, second, os::clock::local_offset_min);
    let (date, max_age) = expires.resolve(now, r.response.last_modified(), next_day_time);
    let control = match max_age {
        Some(seconds) => format!("max-age={seconds}"),
        None => "no-cache".to_owned(),
    };
    let headers = &mut r.response.headers;
    headers.set_known(Known::Expires, b"Expires", &proto::date::http(date));
    headers.set_known(Known::CacheControl, b"Cache-Control", control.as_bytes());
}

impl Expires {
    /// The date of `Expires` and the seconds of `max-age`, `None` where the answer must not be kept.
    fn resolve(self, now: i64, modified: Option<i64>, daily: impl Fn(i64) -> i64) -> (i64, Option<i64>) {
        /// What nginx sends as its latest time: Thu, 31 Dec 2037 23:55:55 GMT.
        const MAX_DATE: i64 = 2_145_916_555;
        const TEN_YEARS: i64 = 315_360_000;
        let date = match self {
            Self::Epoch => return (1, None),
            Self::Max => return (MAX_DATE, Some(TEN_YEARS)),
            // Zero is now, also for a file that was modified long ago.
            Self::After(_, 0) => return (now, Some(0)),
            Self::After(From::Modified, seconds) => modified.unwrap_or(now).saturating_add(seconds),
            Self::After(From::Access, seconds) => now.saturating_add(seconds),
            Self::Daily(second) => daily(second),
        };
        let is_negative = matches!(self, Self::After(_, seconds) if seconds < 0);
        let max_age = date.saturating_sub(now);
        (date, (!is_negative && max_age >= 0).then_some(max_age))
    }
}

/// The next time that the local clock shows this second of a day (`ngx_next_time`).
fn next_time(now: i64, second: i64, offset_min: impl Fn(i64) -> i32) -> i64 {
    let east = |time| i64::from(offset_min(time)) * 60;
    let midnight = now + east(now) - (now + east(now)).rem_euclid(DAY);
    let at = |day: i64| {
        let local = midnight + day * DAY + second;
        // The offset of the time that is meant, which another one than now's may be.
        local - east(local - east(now))
    };
    if at(0) > now { at(0) } else { at(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check =
            |value: &str, from, expected| assert_eq!(parse(value.as_bytes(), from), expected, "{value}");
        let after = |seconds| Ok(Some(Expires::After(From::Access, seconds)));
        check("off", From::Access, Ok(None));
        check("epoch", From::Access, Ok(Some(Expires::Epoch)));
        check("max", From::Access, Ok(Some(Expires::Max)));
        check("0", From::Access, after(0));
        check("10", From::Access, after(10));
        check("+1m30s", From::Access, after(90));
        check("-1", From::Access, after(-1));
        check("@15h30m", From::Access, Ok(Some(Expires::Daily(55_800))));
        check("@25h", From::Access, Err("daily time value must be less than 24 hours"));
        check("1h", From::Modified, Ok(Some(Expires::After(From::Modified, 3600))));
        check("@1h", From::Modified, Err("daily time cannot be used with \"modified\" parameter"));
        check("max", From::Modified, Err("invalid value"));
        check("", From::Access, Err("invalid value"));
        check("soon", From::Access, Err("invalid value"));
    }

    #[test]
    fn dates_and_ages() {
        let check = |expires: Expires, modified, expected| {
            assert_eq!(expires.resolve(1000, modified, |second| 1000 + second), expected, "{expires:?}");
        };
        check(Expires::Epoch, None, (1, None));
        check(Expires::After(From::Access, 0), None, (1000, Some(0)));
        check(Expires::After(From::Access, 10), Some(5), (1010, Some(10)));
        check(Expires::After(From::Access, -10), None, (990, None));
        check(Expires::After(From::Modified, 100), Some(950), (1050, Some(50)));
        check(Expires::After(From::Modified, 10), Some(950), (960, None));
        check(Expires::After(From::Modified, 10), None, (1010, Some(10)));
        check(Expires::Daily(5), None, (1005, Some(5)));
        assert_eq!(
            &proto::date::http(Expires::Max.resolve(0, None, |_| 0).0),
            b"Thu, 31 Dec 2037 23:55:55 GMT"
        );
    }

    #[test]
    fn times_of_day() {
        let check = |now, second, offset, expected| assert_eq!(next_time(now, second, |_| offset), expected);
        check(DAY + 100, 200, 0, DAY + 200);
        check(DAY + 100, 100, 0, 2 * DAY + 100);
        check(DAY + 100, 50, 0, 2 * DAY + 50);
        // One hour east, local midnight is 23:00 of the day before.
        check(DAY, 2 * 3600, 60, DAY + 3600);
        check(DAY, 1800, 60, 2 * DAY - 1800);
        // Clocks go forward by an hour at 7200: 10:00 is one hour earlier in UTC.
        let summer = |time: i64| if time < 7200 { 0 } else { 60 };
        assert_eq!(next_time(3600, 36_000, summer), 36_000 - 3600);
    }
}
