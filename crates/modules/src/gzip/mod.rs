//! `ngx_http_gzip_filter_module`: codes answers by gzip for clients that take it.
//!
//! Whether an answer is coded is decided in `http::coding`; here are the directives and the encoder.

mod deflate;
mod huffman;
mod short;

use conf::{Arity, Contexts, Directive, Error};
use http::coding::{self, Codes, Coding, Encode, Settings as CodingSettings, rows};
use http::conf::Location;
use http::conf::compile::Cx;
use http::filters::{Filtered, HeaderFilter};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, flag, row, size, value};
use http::variables::Variable;

use self::deflate::Gzip as Encoder;

/// `ngx_http_gzip_filter_module`.
pub struct Gzip;

/// Settings of [`Gzip`].
#[derive(Clone, Default)]
pub struct GzipSettings {
    coding: CodingSettings,
    /// `gzip_window`: bits of the window's size.
    window_bits: u8,
}

impl Settings for GzipSettings {
    fn enter(&mut self) {
        self.coding.types.enter();
    }
}

impl Codes for GzipSettings {
    fn coding(&mut self) -> &mut CodingSettings {
        &mut self.coding
    }
}

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<GzipSettings>; 9] = [
    rows::enabled("gzip", "Codes answers by gzip."),
    rows::types("gzip_types"),
    value("gzip_comp_level", ALL, Arity::ONE, "1", "How hard to compress, 1 to 9.", |s, d| {
        s.coding.level = u32::try_from(d.number_between(1, 9)?).unwrap_or(1);
        Ok(())
    }),
    rows::buffers("gzip_buffers"),
    rows::min_length("gzip_min_length"),
    value("gzip_window", ALL, Arity::ONE, "32k", "Size of the window.", window),
    row("gzip_hash", ALL, Arity::ONE, "64k", "Accepted; the encoder sizes its own tables.", hash),
    size("postpone_gzipping", ALL, "0", "Bytes that are gathered before coding begins.", |s, v| {
        s.coding.postponed = v as u64;
    }),
    flag("gzip_no_buffer", ALL, "off", "Coded output leaves as soon as it is there.", |s, v| {
        s.coding.unbuffered = v;
    }),
];

static VARIABLES: [Variable; 1] = [Variable::new("gzip_ratio", |r, out| coding::ratio(r, Coding::Gzip, out))];

impl Module for Gzip {
    const NAME: &'static str = "ngx_http_gzip_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = GzipSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
        registry.variables(&VARIABLES);
    }
}

/// `gzip_window` (`ngx_http_gzip_window`).
fn window(s: &mut GzipSettings, d: &Directive) -> Result<(), Error> {
    let size = d.size()?;
    if !size.is_power_of_two() || !(512..=32 << 10).contains(&size) {
        return Err(Error::on(d, "must be 512, 1k, 2k, 4k, 8k, 16k, or 32k"));
    }
    s.window_bits = u8::try_from(size.trailing_zeros()).unwrap_or(15);
    Ok(())
}

/// `gzip_hash` (`ngx_http_gzip_hash`).
fn hash(_: &mut GzipSettings, _: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let size = d.size()?;
    if !size.is_power_of_two() || !(512..=128 << 10).contains(&size) {
        return Err(Error::on(d, "must be 512, 1k, 2k, 4k, 8k, 16k, 32k, 64k, or 128k"));
    }
    Ok(())
}

impl HeaderFilter for Gzip {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().coding.enabled
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().slots.share::<Self>();
        let length = r.response.content_length;
        if coding::begin(r, Coding::Gzip, &settings.coding) {
            let window = window_bits(settings.window_bits, length);
            let encoder = Encoder::new(settings.coding.level, window, length);
            r.output.add_filter(Box::new(Encode::new(encoder, Coding::Gzip, &settings.coding)));
        }
        Filtered::Next
    }
}

/// The window of a short answer need not be larger than the answer (`ngx_http_gzip_filter_memory`).
fn window_bits(most: u8, length: Option<u64>) -> u8 {
    // As much of a window is not usable in zlib.
    const UNUSED: u64 = 262;
    let mut bits = most;
    if let Some(length) = length.filter(|length| *length > 0) {
        while bits > 9 && length + UNUSED < 1 << (bits - 1) {
            bits -= 1;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fit_the_answer() {
        let check =
            |most, length, expected| assert_eq!(window_bits(most, length), expected, "{most} {length:?}");
        check(15, None, 15);
        check(15, Some(0), 15);
        check(15, Some(1), 9);
        check(15, Some(249), 9);
        check(15, Some(250), 10);
        check(15, Some(1 << 10), 11);
        check(15, Some((1 << 14) - 263), 14);
        check(15, Some((1 << 14) - 262), 15);
        check(12, Some(1 << 20), 12);
        check(9, Some(1), 9);
    }
}
