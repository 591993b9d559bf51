//! `ngx_http_split_clients_module`: a variable whose value depends on the hash of a text, in given shares.
//!
//! The hash is MurmurHash2, so each client stays where nginx put it.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, Word};
use http::conf::compile::Cx;
use http::module::{Module, Slot};
use http::request::Request;
use http::rows::{Row, row};
use http::variables::{Cache, Compute, Template};

/// `ngx_http_split_clients_module`.
pub struct SplitClients;

static SLOT: Slot = Slot::new();

static ROWS: [Row<()>; 1] = [row(
    "split_clients",
    Contexts::HTTP.or(Contexts::STREAM),
    Arity::TWO,
    "",
    "Defines a variable by shares of clients.",
    read,
)
.free()];

impl Module for SplitClients {
    const NAME: &'static str = "ngx_http_split_clients_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_split_clients_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }
}

/// All there is: hundredths of a percent.
const WHOLE: u32 = 10_000;

/// What becomes of hashes below a bound.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    /// Hashes below this one belong to it; all others too where there is none.
    bound: Option<u32>,
    value: Box<[u8]>,
}

struct Split {
    key: Template,
    parts: Vec<Part>,
}

fn read((): &mut (), cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (key, name) = (Template::compile(cx, d.arg(0)?)?, d.arg(1)?);
    let Some(bare) = name.bytes.strip_prefix(b"$").filter(|bare| !bare.is_empty()) else {
        return Err(Error::at(name, format!("invalid variable name \"{}\"", name.as_str())));
    };
    let mut shares = Vec::new();
    for line in d.body() {
        let [value] = &*line.args else {
            let sentence = format!("invalid number of arguments in \"{}\" directive", line.name.as_str());
            return Err(Error::at(&line.name, sentence));
        };
        shares.push((share(&line.name)?, (*value.bytes).into()));
    }
    let parts = divide(shares).ok_or_else(|| Error::at_close(d, "percent total is greater than 100%"))?;
    cx.define_computed(&bare.to_ascii_lowercase(), name, Arc::new(Split { key, parts }), Cache::PerRequest)?;
    Ok(())
}

/// `12.34%` in hundredths of a percent; `*` is none, which stands for the rest.
fn share(word: &Word) -> Result<Option<u32>, Error> {
    if word.is("*") {
        return Ok(None);
    }
    let number = word.bytes.strip_suffix(b"%").and_then(hundredths).filter(|share| *share > 0);
    match number {
        Some(share) => Ok(Some(share)),
        None => Err(Error::at(word, format!("invalid percent value \"{}\"", word.as_str()))),
    }
}

/// A number with up to two decimals, times a hundred (`ngx_atofp`).
fn hundredths(text: &[u8]) -> Option<u32> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let digits = |text: &[u8]| match text {
        [] => Some(0),
        text => conf::parse_number(text).and_then(|number| u32::try_from(number).ok()),
    };
    let scale = match decimals.len() {
        0 => 100,
        1 => 10,
        2 => 1,
        _ => return None,
    };
    if text.is_empty() {
        return None;
    }
    digits(whole)?.checked_mul(100)?.checked_add(digits(decimals)? * scale)
}

/// The parts of these shares; `None` where they are more than the whole.
fn divide(shares: Vec<(Option<u32>, Box<[u8]>)>) -> Option<Vec<Part>> {
    let (mut sum, mut last) = (0_u32, 0_u32);
    let mut parts = Vec::with_capacity(shares.len());
    for (share, value) in shares {
        sum = match share {
            Some(share) => sum.checked_add(share)?,
            None => WHOLE,
        };
        if sum > WHOLE {
            return None;
        }
        let bound = share.filter(|_| sum < WHOLE).map(|share| {
            let width = u64::from(share) * u64::from(u32::MAX) / u64::from(WHOLE);
            last = last.saturating_add(u32::try_from(width).unwrap_or(u32::MAX));
            last
        });
        parts.push(Part { bound, value });
    }
    Some(parts)
}

impl Compute for Split {
    fn compute(&self, r: &Request, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.key.append(r, out);
        let hash = murmur2(out.get(start..).unwrap_or_default());
        out.truncate(start);
        let part = self.parts.iter().find(|part| part.bound.is_none_or(|bound| hash < bound));
        out.extend_from_slice(part.map_or(&[], |part| &part.value));
        true
    }
}

/// MurmurHash2 of 32 bits as nginx seeds it: with the length.
fn murmur2(text: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut words = text.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0_u32, |k, byte| (k << 8) | u32::from(*byte));
        k = k.wrapping_mul(MULTIPLIER);
        k ^= k >> 24;
        k = k.wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0_u32, |k, byte| (k << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |text: &str, expected| assert_eq!(hundredths(text.as_bytes()), expected, "{text}");
        check("10", Some(1000));
        check("0.5", Some(50));
        check("51.25", Some(5125));
        check(".5", Some(50));
        check("5.", Some(500));
        check("1.234", None);
        check("x", None);
        check("-1", None);
        check("", None);
        check("1.2.3", None);
    }

    #[test]
    fn shares() {
        let bounds = |list: &[Option<u32>]| {
            let shares = list.iter().map(|share| (*share, Box::default())).collect();
            divide(shares).map(|parts| parts.into_iter().map(|part| part.bound).collect::<Vec<_>>())
        };
        assert_eq!(bounds(&[Some(5000), None]), Some(vec![Some(0x7fff_ffff), None]));
        assert_eq!(bounds(&[Some(5000), Some(5000)]), Some(vec![Some(0x7fff_ffff), None]));
        assert_eq!(bounds(&[Some(2500), Some(2500)]), Some(vec![Some(0x3fff_ffff), Some(0x7fff_fffe)]));
        assert_eq!(bounds(&[Some(5000), Some(5001)]), None);
        assert_eq!(bounds(&[None, Some(1)]), None);
        assert_eq!(bounds(&[]), Some(vec![]));
    }

    #[test]
    fn hashes() {
        let check = |text: &str, expected| assert_eq!(murmur2(text.as_bytes()), expected, "{text}");
        check("", 0);
        check("1", 1_228_156_847);
        check("10.0.0.1", 2_670_052_029);
        check("abc", 324_500_635);
        check("abcdefg", 4_188_131_059);
    }
}
