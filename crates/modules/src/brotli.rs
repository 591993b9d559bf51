//! Brotli, with the directives of `ngx_brotli`: answers that are coded on the way.
//!
//! It stands in front of gzip: a client that takes both gets the smaller.

use std::io;

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderOperation as Operation, BrotliEncoderStateStruct};
use conf::{Arity, Contexts, Directive, Error};
use http::coding::{self, Codes, Coding, Encode, Encoded, Encoder, Goal, Settings as CodingSettings, rows};
use http::conf::Location;
use http::filters::{Filtered, HeaderFilter};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, value};
use http::variables::Variable;

/// `ngx_http_brotli_filter_module`.
pub struct Brotli;

/// Settings of [`Brotli`].
#[derive(Clone, Default)]
pub struct BrotliSettings {
    coding: CodingSettings,
    /// `brotli_window`: bits of the window's size.
    window_bits: i32,
}

impl Settings for BrotliSettings {
    fn enter(&mut self) {
        self.coding.types.enter();
    }
}

impl Codes for BrotliSettings {
    fn coding(&mut self) -> &mut CodingSettings {
        &mut self.coding
    }
}

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<BrotliSettings>; 6] = [
    rows::enabled("brotli", "Codes answers by brotli."),
    rows::types("brotli_types"),
    value("brotli_comp_level", ALL, Arity::ONE, "6", "How hard to compress, 0 to 11.", |s, d| {
        s.coding.level = u32::try_from(d.number_between(0, 11)?).unwrap_or(6);
        Ok(())
    }),
    value("brotli_window", ALL, Arity::ONE, "512k", "Size of the window.", window),
    rows::min_length("brotli_min_length"),
    rows::buffers("brotli_buffers"),
];

static VARIABLES: [Variable; 1] =
    [Variable::new("brotli_ratio", |r, out| coding::ratio(r, Coding::Brotli, out))];

impl Module for Brotli {
    const NAME: &'static str = "ngx_http_brotli_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = BrotliSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
        registry.variables(&VARIABLES);
    }
}

fn window(s: &mut BrotliSettings, d: &Directive) -> Result<(), Error> {
    let size = d.size()?;
    if !size.is_power_of_two() || !(1 << 10..=16 << 20).contains(&size) {
        let sizes = "1k, 2k, 4k, 8k, 16k, 32k, 64k, 128k, 256k, 512k, 1m, 2m, 4m, 8m or 16m";
        return Err(Error::on(d, format!("must be {sizes}")));
    }
    s.window_bits = i32::try_from(size.trailing_zeros()).unwrap_or(19);
    Ok(())
}

impl HeaderFilter for Brotli {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().coding.enabled
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().slots.share::<Self>();
        let length = r.response.content_length;
        if coding::begin(r, Coding::Brotli, &settings.coding) {
            let encoder = State::new(settings.coding.level, settings.window_bits, length);
            r.output.add_filter(Box::new(Encode::new(encoder, Coding::Brotli, &settings.coding)));
        }
        Filtered::Next
    }
}

/// The encoder of one answer.
struct State(Box<BrotliEncoderStateStruct<StandardAlloc>>);

impl State {
    fn new(level: u32, window_bits: i32, length: Option<u64>) -> Self {
        let mut state = Box::new(BrotliEncoderStateStruct::new(StandardAlloc::default()));
        state.params.quality = i32::try_from(level).unwrap_or(6);
        state.params.lgwin = window_bits;
        state.params.size_hint = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        Self(state)
    }
}

impl Encoder for State {
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>, goal: Goal) -> io::Result<Encoded> {
        let operation = match goal {
            Goal::Continue => Operation::BROTLI_OPERATION_PROCESS,
            Goal::Flush => Operation::BROTLI_OPERATION_FLUSH,
            Goal::Finish => Operation::BROTLI_OPERATION_FINISH,
        };
        let (mut left, mut consumed, mut end) = (input.len(), 0, output.len());
        output.resize(output.capacity(), 0);
        let mut room = output.len() - end;
        let is_fine = self.0.compress_stream(
            operation,
            &mut left,
            input,
            &mut consumed,
            &mut room,
            output,
            &mut end,
            &mut None,
            &mut |_, _, _, _| (),
        );
        output.truncate(end);
        if !is_fine {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let is_done =
            left == 0 && !self.0.has_more_output() && (goal != Goal::Finish || self.0.is_finished());
        Ok(Encoded { consumed, is_done })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_was_coded_is_decoded() {
        let text: Vec<u8> = (0..30_000u32).flat_map(|n| (n % 777).to_string().into_bytes()).collect();
        for (level, piece, goal) in
            [(0, 10_000, Goal::Continue), (6, 1000, Goal::Flush), (11, 70_000, Goal::Flush)]
        {
            let mut state = State::new(level, 19, None);
            let coded = crate::testing::coded(&mut state, &text, piece, goal);
            let mut plain = Vec::new();
            brotli::Decompressor::new(&*coded, 4096).read_to_end(&mut plain).expect("brotli");
            assert!(plain == text, "level {level}");
        }
    }
}
