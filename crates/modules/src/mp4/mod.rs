//! `ngx_http_mp4_module`: the part of a film that a player asks for, as a film of its own.
//!
//! What describes the film is read, cut down and written anew in memory; the pictures and sounds leave from the file.

mod atom;
mod chunks;
mod fault;
mod file;
mod head;
mod moov;
mod times;
mod trak;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::num::NonZeroU64;
use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::chunk::Chunk;
use http::conf::location::Content;
use http::module::{Module, Settings, Slot};
use http::open_file;
use http::phases::{Answer, Answered, Body, Outcome};
use http::request::Request;
use http::response::Ranges;
use http::rows::{Row, flag, row, size, time, value};
use http::variables::core::find_argument;
use net::Buf;
use os::file::FileInfo;
use proto::h1::Method;

pub use self::fault::Fault;
pub use self::file::{Cut, Source, cut};

/// `ngx_http_mp4_module`.
pub struct Mp4;

/// Settings of [`Mp4`].
#[derive(Clone)]
pub struct Mp4Settings {
    buffer_size: u64,
    max_buffer_size: u64,
    start_key_frame: bool,
    /// By how much an answer may leave quicker than it is played, thousandths.
    limit_rate: Option<NonZeroU64>,
    limit_rate_after_ms: u64,
}

impl Default for Mp4Settings {
    fn default() -> Self {
        Self {
            buffer_size: 512 << 10,
            max_buffer_size: 10 << 20,
            start_key_frame: false,
            limit_rate: None,
            limit_rate_after_ms: 60_000,
        }
    }
}

impl Settings for Mp4Settings {}

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<Mp4Settings>; 6] = [
    row(
        "mp4",
        Contexts::LOCATION,
        Arity::NOARGS,
        "",
        "Answers with MP4 video, of `?start=` to `?end=`.",
        |_, cx, _| {
            cx.block.content = Some(Content::Answer(Arc::new(Mp4)));
            Ok(())
        },
    )
    .many(),
    size("mp4_buffer_size", ALL, "512k", "Bytes of `moov` that are always taken.", |s, v| {
        s.buffer_size = v as u64;
    }),
    value(
        "mp4_limit_rate",
        ALL,
        Arity::ONE,
        "off",
        "Sends so many times as fast as the video is played; `on` is 1.1.",
        limit_rate,
    ),
    time("mp4_limit_rate_after", ALL, "60s", "Playing time that is sent without a limit.", |s, v| {
        s.limit_rate_after_ms = v;
    }),
    size("mp4_max_buffer_size", ALL, "10m", "Most bytes of `moov`.", |s, v| s.max_buffer_size = v as u64),
    flag("mp4_start_key_frame", ALL, "off", "Begins with the key frame before `start`.", |s, v| {
        s.start_key_frame = v;
    }),
];

fn limit_rate(s: &mut Mp4Settings, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    s.limit_rate = match word.bytes.as_ref() {
        b"off" => None,
        b"on" => NonZeroU64::new(1100),
        factor => {
            let factor = thousandths(factor).and_then(NonZeroU64::new);
            let invalid = || Error::at(word, format!("invalid value \"{}\"", word.as_str()));
            Some(factor.ok_or_else(invalid)?)
        }
    };
    Ok(())
}

impl Module for Mp4 {
    const NAME: &'static str = "ngx_http_mp4_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = Mp4Settings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }
}

impl Answer for Mp4 {
    fn answer<'r>(&'r self, r: &'r mut Request) -> Answered<'r> {
        Answered::Now(serve(r))
    }
}

/// The part of a film that is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where it begins, milliseconds.
    pub start_ms: u64,
    /// How long it lasts, milliseconds; to the end unless given.
    pub length_ms: Option<NonZeroU64>,
    /// `mp4_buffer_size`: no `ftyp` may be longer, and any `moov` may be as long. Bytes.
    pub buffer_size: u64,
    /// `mp4_max_buffer_size`: no longer `moov` is read, unless `buffer_size` allows it. Bytes.
    pub max_buffer_size: u64,
    /// `mp4_start_key_frame`.
    pub starts_with_key_frame: bool,
}

impl Asked {
    fn is_whole(&self) -> bool {
        self.start_ms == 0 && !self.has_end()
    }

    fn has_end(&self) -> bool {
        self.length_ms.is_some()
    }

    /// Where it begins, in units of a second.
    fn start(&self, timescale: u32) -> u64 {
        in_units(self.start_ms, timescale)
    }

    /// How long it lasts where that is asked for, in units of a second.
    fn length(&self, timescale: u32) -> Option<u64> {
        self.length_ms.map(|length| in_units(length.get(), timescale))
    }

    /// The duration, or the length that is asked for where that is less.
    fn at_most(&self, duration: u64, timescale: u32) -> u64 {
        self.length(timescale).map_or(duration, |length| duration.min(length))
    }
}

fn in_units(ms: u64, timescale: u32) -> u64 {
    let units = u128::from(ms) * u128::from(timescale) / 1000;
    u64::try_from(units).unwrap_or(u64::MAX)
}

/// `ngx_http_mp4_handler`.
fn serve(r: &mut Request) -> Outcome {
    if !matches!(r.method, Method::Get | Method::Head) {
        return Outcome::Status(405);
    }
    let (path, opened) = match open_file::open_uri(r) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let Some(file) = opened.file.filter(|_| opened.info.is_file()) else { return Outcome::Declined };
    limit(r, &file, opened.info.size);
    let Some((start_ms, length_ms)) = times(&r.args) else { return send_whole(r, file, &opened.info) };
    let settings = r.location().settings::<Mp4>();
    let asked = Asked {
        start_ms,
        length_ms,
        buffer_size: settings.buffer_size,
        max_buffer_size: settings.max_buffer_size,
        starts_with_key_frame: settings.start_key_frame,
    };
    let outcome = match cut(&file::Opened { file: &file, size: opened.info.size }, &asked) {
        Ok(None) => send_whole(r, file, &opened.info),
        Ok(Some(cut)) => send(r, file, &opened.info, cut),
        Err(fault) => {
            let shown = String::from_utf8_lossy(&path.full);
            r.log(fault.level(), format_args!("{}", fault.sentence(&shown)));
            return Outcome::Status(500);
        }
    };
    // Parts of what depends on times are not asked for several at once.
    r.response.ranges = Ranges::SingleOnly;
    outcome
}

fn send_whole(r: &mut Request, file: Arc<File>, info: &FileInfo) -> Outcome {
    open_file::announce(r, info, info.size);
    Outcome::send(open_file::whole(file, info.size))
}

fn send(r: &mut Request, file: Arc<File>, info: &FileInfo, cut: Cut) -> Outcome {
    let Cut { head, data } = cut;
    open_file::announce(r, info, head.len() as u64 + (data.end - data.start));
    let mut front = Buf::empty();
    *front.vec() = head;
    Outcome::send(Body::Many(vec![front.into(), Chunk::File { file, offset: data.start, end: data.end }]))
}

/// `mp4_limit_rate`: lets the answer leave about as fast as it is played. `$limit_rate` goes before it, and it goes
/// before the directive `limit_rate`.
fn limit(r: &mut Request, file: &File, size: u64) {
    let settings = r.location().settings::<Mp4>();
    let (factor, after_ms) = (settings.limit_rate, settings.limit_rate_after_ms);
    let Some(factor) = factor.filter(|_| r.limit_rate.is_none()) else { return };
    let Some(bytes) = file::bytes_per_second(&file::Opened { file, size }) else { return };
    r.limit_rate = Some((bytes.saturating_mul(factor.get()) / 1000).max(1));
    r.limit_rate_after = Some(bytes.saturating_mul(after_ms) / 1000);
}

/// Where the part begins and how long it lasts, milliseconds; `None` where neither is asked for. An end that is none
/// or is not behind the start counts as not given.
fn times(args: &[u8]) -> Option<(u64, Option<NonZeroU64>)> {
    let argument = |name: &[u8]| find_argument(args, name).and_then(thousandths);
    let (start, end) = (argument(b"start"), argument(b"end").and_then(NonZeroU64::new));
    let length = end.and_then(|end| end.get().checked_sub(start.unwrap_or(0))).and_then(NonZeroU64::new);
    match (start, end) {
        (None, None) => None,
        _ => Some((start.unwrap_or(0), length)),
    }
}

/// A number with a point, in thousandths; more digits may stand behind the point and count for nothing
/// (`ngx_http_mp4_atofp`).
fn thousandths(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let (mut number, mut left, mut is_behind) = (0i64, 3u32, false);
    for byte in text {
        match byte {
            b'.' if is_behind => return None,
            b'.' => is_behind = true,
            b'0'..=b'9' if left > 0 => {
                number = number.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
                left -= u32::from(is_behind);
            }
            b'0'..=b'9' => {}
            _ => return None,
        }
    }
    number.checked_mul(10i64.pow(left))?.try_into().ok()
}
