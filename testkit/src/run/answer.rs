//! Judges one answer by one expectation.
//!
//! Values are compared by globs, dates with a few seconds of leeway.

use crate::dates;
use crate::message::Message;
use crate::places::Places;
use crate::script::Expect;
use crate::text::{find, glob, gunzip, pattern, show_some, unescape};

/// How far two dates may lie apart, in seconds.
const LEEWAY: i64 = 5;

/// An answer under judgement.
pub(super) struct Judge<'a> {
    pub(super) places: &'a Places,
    pub(super) answer: &'a Message,
}

impl Judge<'_> {
    pub(super) fn holds(&self, expected: &Expect) -> Result<(), String> {
        let answer = self.answer;
        let held = match expected {
            Expect::Version(version) => answer.start.split(' ').next() == Some(version),
            Expect::Header(name, wanted) => return self.header(name, wanted, &answer.headers),
            Expect::Trailer(name, wanted) => return self.header(name, wanted, &answer.trailers),
            Expect::Present(name) => answer.header(name).is_some(),
            Expect::Absent(name) => answer.header(name).is_none(),
            Expect::Count(name, count) => answer.all(name).len() == *count,
            Expect::Names(names) => names.iter().eq(answer.headers.iter().map(|(name, _)| name)),
            Expect::Body(text) => {
                let wanted = self.bytes(text)?;
                if answer.body != wanted {
                    return Err(format!("wanted: {}", show_some(&wanted, 600)));
                }
                true
            }
            Expect::Has(text) => find(&answer.body, &self.bytes(text)?).is_some(),
            Expect::Lacks(text) => find(&answer.body, &self.bytes(text)?).is_none(),
            Expect::Like(text) => glob(&self.bytes(text)?, &answer.body),
            Expect::Length(length) => answer.body.len() == *length,
            Expect::Pattern(length) => return same_bytes(&pattern(*length), &answer.body),
            Expect::File(path) => {
                let path = self.places.root().join(path);
                let wanted = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                return same_bytes(&wanted, &answer.body);
            }
            Expect::Gunzip(text) => {
                let plain = gunzip(&answer.body).map_err(|error| format!("not gzip: {error}"))?;
                return same_bytes(&self.bytes(text)?, &plain);
            }
            Expect::Framing(framing) => answer.framing == *framing,
            Expect::Truncated => answer.ending == crate::message::Ending::Truncated,
            other => return Err(format!("not for an answer: {other:?}")),
        };
        if held { Ok(()) } else { Err("does not hold".into()) }
    }

    /// One of the headers of this name must match.
    fn header(&self, name: &str, wanted: &str, headers: &[(String, String)]) -> Result<(), String> {
        let wanted = self.places.expand(wanted).map_err(|error| error.to_string())?;
        let mut values =
            headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        let held = values.any(|value| match (dates::parse(&wanted), dates::parse(value)) {
            (Some(wanted), Some(got)) => (wanted - got).abs() <= LEEWAY,
            _ => glob(wanted.as_bytes(), value.as_bytes()),
        });
        if held { Ok(()) } else { Err(format!("wanted {name}: {wanted}")) }
    }

    fn bytes(&self, text: &str) -> Result<Vec<u8>, String> {
        let text = self.places.expand(text).map_err(|error| error.to_string())?;
        unescape(&text).map_err(|error| error.to_string())
    }
}

/// Names the first place at which two bodies differ.
pub(super) fn same_bytes(wanted: &[u8], got: &[u8]) -> Result<(), String> {
    if wanted == got {
        return Ok(());
    }
    let at = wanted.iter().zip(got).position(|(a, b)| a != b).unwrap_or(wanted.len().min(got.len()));
    let (wanted_length, got_length) = (wanted.len(), got.len());
    Err(format!("wanted {wanted_length} bytes, got {got_length}, which differ from byte {at} on"))
}
