//! `ngx_http_slice_filter_module`: a long answer is fetched in parts of one size, each by a request of its own.
//!
//! `$slice_range` is what the part is asked for with; whoever uses it has the rest of the parts fetched.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use conf::Contexts;
use http::chunk::Queue;
use http::conf::Location;
use http::filters::{BodyFilter, Filtered, HeaderFilter, More, Sees, Taken, Wait};
use http::module::{Module, Registry, Settings, Slot};
use http::output::push_decimal;
use http::phases::Outcome;
use http::request::Request;
use http::response::Ranges;
use http::rows::{Row, size};
use http::subrequest::{Kind, Start, Subrequest, start};
use http::variables::Variable;
use os::errlog::Level;
use proto::h1::Known;

/// `ngx_http_slice_filter_module`.
pub struct Slice;

static SLOT: Slot = Slot::new();

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct SliceSettings {
    size: u64,
}

impl Settings for SliceSettings {}

static ROWS: [Row<SliceSettings>; 1] =
    [size("slice", Contexts::HTTP_ALL, "0", "Size of the parts that answers are fetched in.", |s, v| {
        s.size = v as u64
    })];

static VARIABLES: [Variable; 1] = [Variable::new("slice_range", slice_range)];

impl Module for Slice {
    const NAME: &'static str = "ngx_http_slice_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = SliceSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
        registry.variables(&VARIABLES);
    }
}

/// How far the parts of one answer have come; the main request and those that fetch parts share it.
struct Progress {
    /// Where the next part begins.
    start: Cell<u64>,
    /// Where the client's answer ends.
    end: Cell<u64>,
    /// `$slice_range`.
    range: RefCell<Vec<u8>>,
    etag: RefCell<Option<Vec<u8>>>,
    /// The head of the part that was asked for last has come.
    is_active: Cell<bool>,
}

type Shared = Rc<Progress>;

impl Progress {
    fn ask_for(&self, start: u64, size: u64) {
        let mut range = self.range.borrow_mut();
        range.clear();
        range.extend_from_slice(b"bytes=");
        push_decimal(start, &mut range);
        range.push(b'-');
        push_decimal(start.saturating_add(size).saturating_sub(1), &mut range);
    }
}

fn slice_range(r: &Request, out: &mut Vec<u8>) -> bool {
    let mut notes = r.notes.borrow_mut();
    if let Some(progress) = notes.get::<Shared>() {
        out.extend_from_slice(&progress.range.borrow());
        return true;
    }
    let size = r.location().settings::<Slice>().size;
    if r.is_subrequest || r.response.status != 0 || size == 0 {
        return false;
    }
    let start = first_byte(r) / size * size;
    let progress = Progress {
        start: Cell::new(start),
        end: Cell::new(0),
        range: RefCell::default(),
        etag: RefCell::default(),
        is_active: Cell::new(false),
    };
    progress.ask_for(start, size);
    out.extend_from_slice(&progress.range.borrow());
    notes.put::<Shared>(Rc::new(progress));
    true
}

/// Where the range begins that the client asks for; zero where it asks for several, for the last bytes or upon
/// a condition (`ngx_http_slice_get_start`).
fn first_byte(r: &Request) -> u64 {
    match r.header(Known::Range) {
        Some(value) if r.header(Known::IfRange).is_none() => range_start(value).unwrap_or(0),
        _ => 0,
    }
}

fn range_start(value: &[u8]) -> Option<u64> {
    let (unit, rest) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") || rest.contains(&b',') {
        return None;
    }
    number(&mut without_spaces(rest))
}

fn without_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    text.get(spaces..).unwrap_or_default()
}

/// Takes a number of at least one digit from the front; `None` also for one that is too large for a file.
fn number(text: &mut &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    *text = rest;
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    i64::try_from(number).is_ok().then_some(number)
}

/// `bytes START-END/LENGTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    start: u64,
    /// Behind the last byte.
    end: u64,
    /// `None` for `*`.
    length: Option<u64>,
}

fn content_range(value: &[u8]) -> Option<ContentRange> {
    let mut rest = without_spaces(value.strip_prefix(b"bytes ")?);
    let start = number(&mut rest)?;
    rest = without_spaces(without_spaces(rest).strip_prefix(b"-")?);
    let end = number(&mut rest)?.checked_add(1)?;
    rest = without_spaces(without_spaces(rest).strip_prefix(b"/")?);
    let length = match rest.strip_prefix(b"*") {
        Some(behind) => {
            rest = behind;
            None
        }
        None => Some(number(&mut rest)?),
    };
    without_spaces(rest).is_empty().then_some(ContentRange { start, end, length })
}

impl HeaderFilter for Slice {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().size > 0
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let Some(progress) = r.notes.borrow().get::<Shared>().cloned() else { return Filtered::Next };
        let status = r.response.status;
        if status != 206 && !r.is_subrequest {
            drop(r.notes.borrow_mut().take::<Shared>());
            return Filtered::Next;
        }
        let size = r.location().settings::<Self>().size;
        if let Err(why) = check(r, &progress, size) {
            r.log(Level::Error, format_args!("{why}"));
            return Filtered::Instead(Outcome::Broken(status));
        }
        if !r.is_subrequest {
            r.output.add_filter(Box::new(Parts { progress, size, part: None, is_settled: false }));
            r.output.expect_subrequests();
        }
        Filtered::Next
    }
}

/// Whether the answer is the part that was asked for; then it is presented as the whole, of which the ranges are
/// cut that the client wants.
fn check(r: &mut Request, progress: &Progress, size: u64) -> Result<(), String> {
    let response = &mut r.response;
    if response.status != 206 {
        return Err(format!("unexpected status code {} in slice response", response.status));
    }
    let etag = response.headers.known(Known::ETag).map(<[u8]>::to_vec);
    let expected = progress.etag.borrow().clone();
    if expected.is_some() && etag != expected {
        return Err("etag mismatch in slice response".into());
    }
    if etag.is_some() {
        progress.etag.replace(etag);
    }
    let range = response.headers.known(Known::ContentRange).and_then(content_range);
    let range = range.ok_or("invalid range in slice response")?;
    let length = range.length.ok_or("no complete length in slice response")?;
    let end = range.start.saturating_add(size).min(length);
    let start = progress.start.get();
    if (range.start, range.end) != (start, end) {
        return Err(format!(
            "unexpected range in slice response: {}-{}, expected: {start}-{end}",
            range.start, range.end
        ));
    }
    progress.start.set(end);
    progress.is_active.set(true);
    response.status = 200;
    response.status_line.clear();
    response.headers.remove_known(Known::ContentRange);
    response.headers.remove_known(Known::AcceptRanges);
    response.headers.remove_known(Known::ContentLength);
    response.content_length = Some(length);
    response.content_offset = range.start;
    response.ranges = Ranges::OfPart;
    Ok(())
}

/// Has one part after another fetched behind the first.
struct Parts {
    progress: Shared,
    size: u64,
    part: Option<Subrequest>,
    is_settled: bool,
}

impl Parts {
    /// All header filters have run: which bytes the client gets is known.
    fn settle(&mut self, r: &Request) {
        self.is_settled = true;
        let length = r.response.content_length.unwrap_or(0);
        if r.response.status != 206 {
            self.progress.end.set(length);
            return;
        }
        let first = r.response.content_offset;
        if self.progress.start.get().saturating_add(self.size) <= first {
            self.progress.start.set(first / self.size * self.size);
        }
        self.progress.end.set(first.saturating_add(length));
    }

    fn fetch(&mut self, r: &mut Request) -> io::Result<Subrequest> {
        let (uri, args) = (r.uri.clone(), r.args.clone());
        let sr = r.subrequest(&uri, &args, Kind::InOrder, Start::Content);
        let sr = sr.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        self.progress.ask_for(self.progress.start.get(), self.size);
        self.progress.is_active.set(false);
        sr.notes.borrow_mut().put::<Shared>(Rc::clone(&self.progress));
        Ok(start(sr))
    }
}

impl BodyFilter for Parts {
    fn sees(&self) -> Sees {
        Sees::Chunks
    }

    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken> {
        output.append(input);
        if !self.is_settled {
            self.settle(r);
        }
        if more != More::End {
            return Ok(Taken::All);
        }
        if self.part.as_ref().is_some_and(Subrequest::has_failed) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if !self.progress.is_active.get() {
            r.log(Level::Error, format_args!("missing slice response"));
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.progress.start.get() >= self.progress.end.get() {
            return Ok(Taken::All);
        }
        let part = self.fetch(r)?;
        output.push_subrequest(part.clone());
        self.part = Some(part.clone());
        Ok(Taken::Until(Wait::End(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_parts() {
        let check = |value: &str, expected: Option<(u64, u64, Option<u64>)>| {
            let expected = expected.map(|(start, end, length)| ContentRange { start, end, length });
            assert_eq!(content_range(value.as_bytes()), expected, "{value}");
        };
        check("bytes 0-9/100", Some((0, 10, Some(100))));
        check("bytes  0 - 9 / 100 ", Some((0, 10, Some(100))));
        check("bytes 0-9/*", Some((0, 10, None)));
        check("bytes 0-9", None);
        check("bytes -9/100", None);
        check("bytes 0-9/100x", None);
        check("bytes 0-99999999999999999999/1", None);
        check("Bytes 0-9/100", None);
        check("", None);
    }

    #[test]
    fn the_first_byte_that_a_client_wants() {
        let check = |value: &str, expected| assert_eq!(range_start(value.as_bytes()), expected, "{value}");
        check("bytes=5-", Some(5));
        check("BYTES= 12-20", Some(12));
        check("bytes=-5", None);
        check("bytes=1-2,4-5", None);
        check("bytes", None);
        check("bytes=99999999999999999999-", None);
    }
}
