//! The clocks: coarse ones that cost a few nanoseconds, the precise time of day, and the local time zone.
//!
//! The coarse clocks move in steps of the kernel's tick, one to four milliseconds.

use crate::syscall::check;

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a local that the call fills; the clock ids used here exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now
}

/// Milliseconds of a clock that never jumps, in steps of the kernel's tick.
#[inline]
#[must_use]
pub fn monotonic_coarse_ms() -> u64 {
    let now = read(libc::CLOCK_MONOTONIC_COARSE);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Unix time: seconds, and milliseconds below 1000; in steps of the kernel's tick.
#[inline]
#[must_use]
pub fn realtime_coarse() -> (i64, u32) {
    let now = read(libc::CLOCK_REALTIME_COARSE);
    (now.tv_sec, (now.tv_nsec / 1_000_000) as u32)
}

/// Unix time, seconds, of the precise clock.
#[must_use]
pub fn realtime_sec() -> i64 {
    read(libc::CLOCK_REALTIME).tv_sec
}

/// A date and time of day in the local time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Year, all digits.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute.
    pub minute: u8,
    /// Second, 0 to 60.
    pub second: u8,
    /// Day of the week, 0 is Sunday.
    pub weekday: u8,
    /// Minutes east of UTC.
    pub offset_min: i32,
}

/// The local date and time of a Unix time.
#[must_use]
pub fn local_time(unix_sec: i64) -> LocalTime {
    // SAFETY: all zeros is a valid `tm`; its zone pointer may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    let time: libc::time_t = unix_sec;
    // SAFETY: both point to locals; localtime_r reads the one and fills the other.
    unsafe { libc::localtime_r(&raw const time, &raw mut parts) };
    LocalTime {
        year: parts.tm_year + 1900,
        month: (parts.tm_mon + 1) as u8,
        day: parts.tm_mday as u8,
        hour: parts.tm_hour as u8,
        minute: parts.tm_min as u8,
        second: parts.tm_sec as u8,
        weekday: parts.tm_wday as u8,
        offset_min: (parts.tm_gmtoff / 60) as i32,
    }
}

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Universal time.
    Utc,
    /// That of the machine.
    Local,
}

/// Longest text of a time, as in nginx.
const TEXT_MAX: usize = 2048;

/// A Unix time as text (`strftime(3)`), at most two thousand bytes; `None` where it is empty or longer, or the time is
/// beyond all calendars.
#[must_use]
pub fn format(unix_sec: i64, zone: Zone, format: &std::ffi::CStr) -> Option<Vec<u8>> {
    // SAFETY: all zeros is a valid `tm`; its zone pointer may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    let time: libc::time_t = unix_sec;
    // SAFETY: both point to locals; the calls read the one and fill the other.
    let filled = unsafe {
        match zone {
            Zone::Utc => libc::gmtime_r(&raw const time, &raw mut parts),
            Zone::Local => libc::localtime_r(&raw const time, &raw mut parts),
        }
    };
    // Its year has more digits than there is room for.
    if filled.is_null() {
        return None;
    }
    let mut text = vec![0u8; TEXT_MAX];
    // SAFETY: the buffer has the length that is told, the format ends with a NUL, and `parts` was filled above,
    // its zone pointing to names that the C library keeps.
    let length =
        unsafe { libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &raw const parts) };
    text.truncate(length);
    (length > 0).then_some(text)
}

/// Minutes east of UTC that the local time zone has at a Unix time.
#[must_use]
pub fn local_offset_min(unix_sec: i64) -> i32 {
    local_time(unix_sec).offset_min
}

/// Sleeps, as nginx does between attempts to bind; for the master alone.
pub fn sleep_ms(ms: u32) {
    let time = libc::timespec { tv_sec: i64::from(ms / 1000), tv_nsec: i64::from(ms % 1000) * 1_000_000 };
    // SAFETY: `time` is a local; the remaining time is not asked for.
    let _ = check(unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree() {
        assert!(monotonic_coarse_ms() > 0);
        let (sec, ms) = realtime_coarse();
        assert!(sec.abs_diff(realtime_sec()) <= 1 && ms < 1000);
    }

    #[test]
    fn times_as_text() {
        let check = |text: &std::ffi::CStr, expected: Option<&str>| {
            let found = format(1_000_000_000, Zone::Utc, text);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{text:?}");
        };
        check(c"%A, %d-%b-%Y %H:%M:%S", Some("Sunday, 09-Sep-2001 01:46:40"));
        check(c"%Y", Some("2001"));
        check(c"", None);
        check(c"%3000Y", None);
        assert_eq!(format(i64::MAX, Zone::Utc, c"%Y"), None, "no calendar has the year");
    }

    #[test]
    fn local_time_is_utc_plus_the_offset() {
        let parts = local_time(1_000_000_000 - i64::from(local_offset_min(1_000_000_000)) * 60);
        assert_eq!((parts.year, parts.month, parts.day), (2001, 9, 9));
        assert_eq!((parts.hour, parts.minute, parts.second, parts.weekday), (1, 46, 40, 0));
    }
}
