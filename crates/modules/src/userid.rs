//! `ngx_http_userid_filter_module`: a cookie that tells one client from another.
//!
//! A client's number is made once: by `$uid_set` where that is read, else for the head of the answer.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use conf::{Arity, Contexts, Directive, Error};
use http::conf::Location;
use http::credentials::{decode_base64, encode_base64};
use http::filters::{Filtered, HeaderFilter};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, row, value};
use http::variables::{Variable, find_cookie};
use os::errlog::Level;
use proto::h1::Known;

/// `ngx_http_userid_filter_module`.
pub struct Userid;

/// `userid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    #[default]
    Off,
    Log,
    V1,
    On,
}

/// `userid_expires`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expires {
    #[default]
    Off,
    Max,
    /// After so many seconds.
    After(u64),
}

/// Settings of [`Userid`].
#[derive(Clone, Default)]
pub struct UseridSettings {
    mode: Mode,
    name: Box<[u8]>,
    service: Option<u32>,
    expires: Expires,
    /// What follows the value: domain, path.
    domain: Option<Box<[u8]>>,
    path: Box<[u8]>,
    flags: u32,
    p3p: Option<Box<[u8]>>,
    mark: Option<u8>,
}

impl Settings for UseridSettings {}

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;
const MODES: [(&str, Mode); 4] = [("off", Mode::Off), ("log", Mode::Log), ("v1", Mode::V1), ("on", Mode::On)];

/// `userid_flags`, in the order in which they are written; `off` is none of them.
const FLAGS: [(&str, u32); 6] = [
    ("off", 1),
    ("secure", 2),
    ("httponly", 4),
    ("samesite=strict", 8),
    ("samesite=lax", 16),
    ("samesite=none", 32),
];

fn text(d: &Directive) -> Result<Box<[u8]>, Error> {
    Ok(d.arg(0)?.bytes.to_boxed())
}

fn text_or_none(d: &Directive) -> Result<Option<Box<[u8]>>, Error> {
    let word = d.arg(0)?;
    Ok((!word.is("none") && !word.bytes.is_empty()).then(|| word.bytes.to_boxed()))
}

static ROWS: [Row<UseridSettings>; 9] = [
    value("userid", ALL, Arity::ONE, "off", "Sets or reads the cookie.", |s: &mut UseridSettings, d| {
        s.mode = d.one_of(&MODES)?;
        Ok(())
    }),
    value("userid_service", ALL, Arity::ONE, "", "Number of the server that gave the cookie.", |s, d| {
        s.service = Some((d.number()? & u64::from(u32::MAX)) as u32);
        Ok(())
    }),
    value("userid_name", ALL, Arity::ONE, "uid", "Name of the cookie.", |s, d| {
        s.name = text(d)?;
        Ok(())
    }),
    value("userid_domain", ALL, Arity::ONE, "none", "Domain of the cookie.", |s, d| {
        s.domain = text_or_none(d)?;
        Ok(())
    }),
    value("userid_path", ALL, Arity::ONE, "/", "Path of the cookie.", |s, d| {
        s.path = text(d)?;
        Ok(())
    }),
    value("userid_expires", ALL, Arity::ONE, "off", "How long clients keep the cookie.", |s, d| {
        let word = d.arg(0)?;
        s.expires = match word.time_sec() {
            _ if word.is("off") => Expires::Off,
            _ if word.is("max") => Expires::Max,
            Some(0) => Expires::Off,
            Some(seconds) => Expires::After(seconds),
            None => return Err(Error::on(d, "invalid value")),
        };
        Ok(())
    }),
    row(
        "userid_flags",
        ALL,
        Arity::TAKE123,
        "off",
        "Attributes of the cookie.",
        |s: &mut UseridSettings, cx, d| {
            s.flags = cx.bits(d, &FLAGS)?;
            Ok(())
        },
    )
    .many(),
    value("userid_p3p", ALL, Arity::ONE, "none", "P3P field beside the cookie.", |s, d| {
        s.p3p = text_or_none(d)?;
        Ok(())
    }),
    value("userid_mark", ALL, Arity::ONE, "off", "Last letter of the cookie, to renew others.", |s, d| {
        s.mark = match &*d.arg(0)?.bytes {
            b"off" => None,
            [mark] if mark.is_ascii_alphanumeric() || *mark == b'=' => Some(*mark),
            _ => return Err(Error::on(d, "value must be \"off\" or a single letter, digit or \"=\"")),
        };
        Ok(())
    }),
];

static VARIABLES: [Variable; 3] = [
    Variable::new("uid_got", got).cached(),
    Variable::new("uid_set", set).cached(),
    Variable::new("uid_reset", |_, _| true).cached().changeable(),
];

impl Module for Userid {
    const NAME: &'static str = "ngx_http_userid_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = UseridSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
        registry.variables(&VARIABLES);
    }
}

/// A client's number: where it was made, when, the process, and which in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uid([u8; 16]);

impl Uid {
    /// The number in turn is never zero.
    fn is_known(self) -> bool {
        self.0[12..] != [0; 4]
    }

    fn write(self, name: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(name);
        out.push(b'=');
        for word in self.0.chunks(4) {
            // Words of the machine's order, as in nginx's logs.
            let number = word.try_into().map_or(0, u32::from_le_bytes);
            out.extend_from_slice(format!("{number:08X}").as_bytes());
        }
    }
}

/// What is known of a request's number.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    got: Uid,
    set: Uid,
    /// Another is made in the place of the one that came.
    is_reset: bool,
}

fn cookie<'a>(r: &'a Request, name: &[u8]) -> Option<&'a [u8]> {
    find_cookie(r.line.fields.all(Known::Cookie).map(|field| field.value.of(&r.head)), name)
}

/// Reads the cookie, once (`ngx_http_userid_get_uid`).
fn state(r: &Request, settings: &UseridSettings) -> State {
    if let Some(state) = r.notes.borrow().get::<State>() {
        return *state;
    }
    let got = cookie(r, &settings.name).and_then(|value| {
        let front = value.get(..22);
        let bytes = front.and_then(decode_base64).and_then(|bytes| bytes.try_into().ok());
        if bytes.is_none() {
            let fault = if front.is_none() { "too short" } else { "invalid" };
            let field = r.line.fields.all(Known::Cookie).map(|field| field.value.of(&r.head));
            let field = field
                .into_iter()
                .find(|field| find_cookie(std::iter::once(*field), &settings.name).is_some());
            let shown = String::from_utf8_lossy(field.unwrap_or_default());
            r.log(Level::Error, format_args!("client sent {fault} userid cookie \"{shown}\""));
        }
        bytes.map(Uid)
    });
    let state = State { got: got.unwrap_or_default(), ..State::default() };
    r.notes.borrow_mut().put(state);
    state
}

fn got(r: &Request, out: &mut Vec<u8>) -> bool {
    let settings = r.location().settings::<Userid>();
    if settings.mode == Mode::Off || r.is_subrequest {
        return false;
    }
    let uid = state(r, settings).got;
    if uid.is_known() {
        uid.write(&settings.name, out);
    }
    uid.is_known()
}

fn set(r: &Request, out: &mut Vec<u8>) -> bool {
    let settings = r.location().settings::<Userid>();
    if r.is_subrequest {
        return false;
    }
    let uid = settled(r, settings).set;
    if uid.is_known() {
        uid.write(&settings.name, out);
    }
    uid.is_known()
}

/// Makes a number where one is to be set (`ngx_http_userid_create_uid`).
fn settled(r: &Request, settings: &UseridSettings) -> State {
    let mut state = state(r, settings);
    if state.set.is_known() {
        return state;
    }
    if state.got.is_known() {
        let reset =
            r.cycle.http.variables.find(b"uid_reset").and_then(|id| r.variable(id)).unwrap_or_default();
        if matches!(&*reset, b"" | b"0") {
            let is_marked = |mark: u8| {
                cookie(r, &settings.name).and_then(|value| value.get(22..24)) == Some(&[mark, b'='])
            };
            if settings.mark.is_some_and(|mark| !is_marked(mark)) {
                state.set = state.got;
                r.notes.borrow_mut().put(state);
            }
            return state;
        }
        state.is_reset = true;
        if *reset == *b"log" {
            let mut shown = Vec::new();
            state.got.write(&settings.name, &mut shown);
            let shown = String::from_utf8_lossy(&shown);
            r.log(Level::Notice, format_args!("userid cookie \"{shown}\" was reset"));
        }
    }
    state.set = make(r, settings);
    r.notes.borrow_mut().put(state);
    state
}

fn make(r: &Request, settings: &UseridSettings) -> Uid {
    static FIRST: AtomicU32 = AtomicU32::new(1);
    static SECOND: AtomicU32 = AtomicU32::new(START);
    const START: u32 = 0x0303_0302;
    let seconds = (net::timer::wall_clock().0 & i64::from(u32::MAX)) as u32;
    let mut uid = [0; 16];
    let words = if settings.mode == Mode::V1 {
        let turn = FIRST.fetch_add(0x100, Ordering::Relaxed);
        [settings.service.unwrap_or(0), seconds, process(), turn].map(u32::to_le_bytes)
    } else {
        let place = match (settings.service, r.conn.local_ip()) {
            (Some(service), _) => service.to_be_bytes(),
            (None, Some(IpAddr::V4(ip))) => ip.octets(),
            (None, Some(IpAddr::V6(ip))) => ip.octets().last_chunk().copied().unwrap_or_default(),
            (None, None) => [0; 4],
        };
        let next = |turn: u32| Some(turn.wrapping_add(0x100).max(START));
        let turn = SECOND.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(START);
        [place, seconds.to_be_bytes(), process().to_be_bytes(), turn.to_be_bytes()]
    };
    for (place, word) in uid.chunks_mut(4).zip(words) {
        place.copy_from_slice(&word);
    }
    Uid(uid)
}

/// What tells this process from others: its number and when it began, to 20 µs.
fn process() -> u32 {
    static PROCESS: OnceLock<u32> = OnceLock::new();
    *PROCESS.get_or_init(|| {
        let (_, millis) = net::timer::wall_clock();
        (millis * 1000 / 20) << 16 | (std::process::id() & 0xffff)
    })
}

impl HeaderFilter for Userid {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().mode >= Mode::V1
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().settings::<Self>();
        if settings.mode < Mode::V1 || r.is_subrequest {
            return Filtered::Next;
        }
        let state = settled(r, settings);
        if state.set.is_known() {
            let field = set_cookie(r, settings, state);
            let p3p = settings.p3p.clone();
            r.response.headers.push_known(Known::SetCookie, b"Set-Cookie", &field);
            if let Some(p3p) = p3p {
                r.response.headers.push(b"P3P", &p3p);
            }
        }
        Filtered::Next
    }
}

/// The value of the field (`ngx_http_userid_set_uid`).
fn set_cookie(r: &Request, settings: &UseridSettings, state: State) -> Vec<u8> {
    let mut out = settings.name.to_vec();
    out.push(b'=');
    if !state.got.is_known() || state.is_reset {
        let mut value = encode_base64(&state.set.0);
        // The padding's first sign is free to be a mark.
        if let (Some(mark), [.., place, _]) = (settings.mark, &mut *value) {
            *place = mark;
        }
        out.extend_from_slice(&value);
    } else {
        let value = cookie(r, &settings.name).unwrap_or_default();
        out.extend_from_slice(value.get(..22).unwrap_or_default());
        out.extend(settings.mark);
        out.push(b'=');
    }
    match settings.expires {
        Expires::Off => {}
        Expires::Max => out.extend_from_slice(b"; expires=Thu, 31-Dec-37 23:55:55 GMT"),
        Expires::After(seconds) => {
            out.extend_from_slice(b"; expires=");
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            proto::date::cookie(net::timer::wall_clock().0.saturating_add(seconds), &mut out);
        }
    }
    if let Some(domain) = &settings.domain {
        out.extend_from_slice(b"; domain=");
        out.extend_from_slice(domain);
    }
    out.extend_from_slice(b"; path=");
    out.extend_from_slice(&settings.path);
    for (name, _) in FLAGS.iter().skip(1).filter(|(_, bit)| settings.flags & bit != 0) {
        out.extend_from_slice(b"; ");
        out.extend_from_slice(name.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_words() {
        let uid = Uid([127, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 3, 3]);
        let mut out = Vec::new();
        uid.write(b"uid", &mut out);
        assert_eq!(out, b"uid=0100007F040302010807060503030302");
        assert!(uid.is_known() && !Uid::default().is_known());
    }
}
