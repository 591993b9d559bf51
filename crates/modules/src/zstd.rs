//! Zstandard, with the directives of `zstd-nginx-module`: answers that are coded on the way.
//!
//! It stands in front of brotli and gzip: it is the cheapest for what it saves.

use std::cell::RefCell;
use std::io;

use conf::{Arity, Contexts, Error};
use http::coding::{self, Codes, Coding, Encode, Encoded, Encoder, Goal, Settings as CodingSettings, rows};
use http::conf::Location;
use http::filters::{Filtered, HeaderFilter};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, value};
use http::variables::Variable;
use zstd_safe::zstd_sys::ZSTD_EndDirective as End;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

/// `ngx_http_zstd_filter_module`.
pub struct Zstd;

/// Settings of [`Zstd`].
#[derive(Clone, Default)]
pub struct ZstdSettings(CodingSettings);

impl Settings for ZstdSettings {
    fn enter(&mut self) {
        self.0.types.enter();
    }
}

impl Codes for ZstdSettings {
    fn coding(&mut self) -> &mut CodingSettings {
        &mut self.0
    }
}

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<ZstdSettings>; 5] = [
    rows::enabled("zstd", "Codes answers by zstd."),
    rows::types("zstd_types"),
    value("zstd_comp_level", ALL, Arity::ONE, "1", "How hard to compress, 1 to 22.", |s, d| {
        let level = d.number()?;
        let highest = u64::try_from(zstd_safe::max_c_level()).unwrap_or(22);
        if !(1..=highest).contains(&level) {
            return Err(Error::on(d, format!("zstd compress level must between 1 and {highest}")));
        }
        s.0.level = u32::try_from(level).unwrap_or(1);
        Ok(())
    }),
    rows::min_length("zstd_min_length"),
    rows::buffers("zstd_buffers"),
];

static VARIABLES: [Variable; 1] = [Variable::new("zstd_ratio", |r, out| coding::ratio(r, Coding::Zstd, out))];

impl Module for Zstd {
    const NAME: &'static str = "ngx_http_zstd_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ZstdSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
        registry.variables(&VARIABLES);
    }
}

impl HeaderFilter for Zstd {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().0.enabled
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().slots.share::<Self>();
        if coding::begin(r, Coding::Zstd, &settings.0) {
            let encoder = State::new(settings.0.level);
            r.output.add_filter(Box::new(Encode::new(encoder, Coding::Zstd, &settings.0)));
        }
        Filtered::Next
    }
}

/// Encoders that one thread keeps.
const KEEP: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<CCtx<'static>>> = const { RefCell::new(Vec::new()) };
}

/// The encoder of one answer, kept for the next of the thread.
struct State(Option<CCtx<'static>>);

impl State {
    fn new(level: u32) -> Self {
        let kept = FREE.with(|free| free.borrow_mut().pop());
        let mut context = kept.unwrap_or_default();
        // A level that the library does not take leaves its own default in force.
        let _ = context.set_parameter(CParameter::CompressionLevel(i32::try_from(level).unwrap_or(1)));
        Self(Some(context))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let Some(mut context) = self.0.take() else { return };
        // At thread exit the list may be gone already; then the memory is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEEP && context.reset(ResetDirective::SessionAndParameters).is_ok() {
                free.push(context);
            }
        });
    }
}

impl Encoder for State {
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>, goal: Goal) -> io::Result<Encoded> {
        let Some(context) = &mut self.0 else { return Err(io::ErrorKind::InvalidData.into()) };
        let directive = match goal {
            Goal::Continue => End::ZSTD_e_continue,
            Goal::Flush => End::ZSTD_e_flush,
            Goal::Finish => End::ZSTD_e_end,
        };
        let at = output.len();
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around_pos(output, at);
        let left = context
            .compress_stream2(&mut to, &mut from, directive)
            .map_err(|code| io::Error::other(zstd_safe::get_error_name(code)))?;
        let consumed = from.pos();
        let is_done = consumed == input.len() && (goal == Goal::Continue || left == 0);
        Ok(Encoded { consumed, is_done })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_coded_is_decoded() {
        let text: Vec<u8> = (0..30_000u32).flat_map(|n| (n % 777).to_string().into_bytes()).collect();
        for (level, piece, goal) in
            [(1, 10_000, Goal::Continue), (3, 1000, Goal::Flush), (19, 70_000, Goal::Flush)]
        {
            let mut state = State::new(level);
            let coded = crate::testing::coded(&mut state, &text, piece, goal);
            let mut plain = Vec::with_capacity(text.len() + 1);
            let length = zstd_safe::decompress(&mut plain, &coded).expect("zstd");
            assert!(length == text.len() && plain == text, "level {level}");
        }
    }
}
