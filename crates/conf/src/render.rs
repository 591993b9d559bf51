//! A message as text: nginx's one line, or on a terminal also the source line, a caret and the fix.
//!
//! Bytes of the configuration are shown without control characters, so a file cannot steer a terminal.

use std::fmt::Write as _;

use crate::sources::{FileId, Origin, Sources};
use crate::{Error, Fault, Spot};

/// How much a message shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// nginx's sentence with ` in FILE:LINE`.
    Plain,
    /// The sentence, the line that it is about, a caret below the word, and the likely fix.
    Terminal,
}

impl Error {
    /// The message without the prefix `nginx: [emerg] `, which the program adds.
    #[must_use]
    pub fn render(&self, sources: &Sources, style: Style) -> String {
        let place = self.spot.map(|spot| place_of(spot, sources)).unwrap_or_default();
        let mut out = match &self.fault {
            Fault::Around { before, after } => format!("{before}{place}{after}"),
            fault => format!("{fault}{place}"),
        };
        if style == Style::Terminal {
            let _ = self.explanation(sources, &mut out);
        }
        out
    }

    fn explanation(&self, sources: &Sources, out: &mut String) -> std::fmt::Result {
        let hint = self.hint.as_ref().map(|hint| format!(" {hint}")).unwrap_or_default();
        let Some((place, line)) = self.spot.and_then(|spot| Some((spot.place, sources.line(spot.place)?)))
        else {
            return if hint.is_empty() { Ok(()) } else { write!(out, "\n ={hint}") };
        };
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        let column = (place.column.saturating_sub(1) as usize).min(line.len());
        let (before, rest) = line.split_at(column);
        write!(out, "\n {gutter} |\n {number} | {}{}\n", shown(before), shown(rest))?;
        write!(out, " {gutter} | {}{}{hint}", blank(before), "^".repeat(width_of_word(rest)))?;
        let from = sources.source(place.file).and_then(|source| source.included_from);
        if let Some((from, source)) = from.and_then(|from| Some((from, sources.source(from.file)?))) {
            write!(out, "\n {gutter} = included from {}:{}", source.path.display(), from.line)?;
        }
        Ok(())
    }
}

fn place_of(spot: Spot, sources: &Sources) -> String {
    if spot.place.file == FileId::DEFAULT {
        return " in the default of a directive".to_owned();
    }
    match sources.source(spot.place.file) {
        Some(source) if source.origin == Origin::File => {
            format!(" in {}:{}", source.path.display(), spot.line)
        }
        Some(_) => " in command line".to_owned(),
        None => String::new(),
    }
}

/// Characters of the word that `text` begins with, at least one.
fn width_of_word(text: &[u8]) -> usize {
    let end = match text.first() {
        Some(quote @ (b'"' | b'\'')) => text.iter().skip(1).position(|byte| byte == quote).map(|at| at + 2),
        _ => text.iter().position(|byte| matches!(byte, b' ' | b'\t' | b';' | b'{' | b'}' | b'\r')),
    };
    let word = &text[..end.unwrap_or(text.len()).min(text.len())];
    String::from_utf8_lossy(word).chars().count().max(1)
}

fn shown(text: &[u8]) -> String {
    let clean = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    String::from_utf8_lossy(text).chars().map(clean).collect()
}

/// As many columns of space as `text` takes; tabs stay tabs.
fn blank(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect()
}
