//! `error_page`: which statuses are answered by which URI, and with which status then.

use conf::{Directive, Error};

use crate::conf::compile::Cx;
use crate::variables::Template;

/// What the answer's status becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// The status that was intercepted.
    Keep,
    /// `=`: whatever the page's handler says.
    FromPage,
    /// `=200` and the like.
    Status(u16),
}

/// One status of an `error_page` line.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The status that is intercepted.
    pub status: u16,
    /// What it becomes.
    pub overwrite: Overwrite,
    /// A URI, a named location or an address to redirect to.
    pub target: Template,
    /// Arguments of a literal target, behind its question mark.
    pub args: Vec<u8>,
}

/// Reads an `error_page` line (`ngx_http_core_error_page`).
///
/// # Errors
/// `invalid value "…"` and `value "…" must be between 300 and 599`.
pub(super) fn read(cx: &mut Cx<'_>, directive: &Directive) -> Result<Vec<ErrorPage>, Error> {
    let Some((uri, mut codes)) = directive.args.split_last() else { return Ok(Vec::new()) };
    let mut overwrite = Overwrite::Keep;
    if let Some((last, before)) = codes.split_last()
        && last.bytes.first() == Some(&b'=')
    {
        if before.is_empty() {
            return Err(Error::at(last, format!("invalid value \"{}\"", last.as_str())));
        }
        codes = before;
        overwrite = match &last.bytes[1..] {
            b"" => Overwrite::FromPage,
            digits => match std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()) {
                Some(status) => Overwrite::Status(status),
                None => return Err(Error::at(last, format!("invalid value \"{}\"", last.as_str()))),
            },
        };
    }
    let (target, args) = target(cx, uri)?;
    codes
        .iter()
        .map(|word| {
            let status: u16 = std::str::from_utf8(&word.bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| Error::at(word, format!("invalid value \"{}\"", word.as_str())))?;
            if status == 499 {
                return Err(Error::at(word, format!("value \"{}\" is invalid", word.as_str())));
            }
            if !(300..=599).contains(&status) {
                let sentence = format!("value \"{}\" must be between 300 and 599", word.as_str());
                return Err(Error::at(word, sentence));
            }
            let overwrite = match overwrite {
                // The statuses of TLS errors and of too large heads show as 400 unless they are overwritten.
                Overwrite::Keep if matches!(status, 494..=497) => Overwrite::Status(400),
                other => other,
            };
            Ok(ErrorPage { status, overwrite, target: target.clone(), args: args.clone() })
        })
        .collect()
}

fn target(cx: &mut Cx<'_>, word: &conf::Word) -> Result<(Template, Vec<u8>), Error> {
    if Template::has_variables(&word.bytes) || word.bytes.first() != Some(&b'/') {
        return Ok((Template::compile(cx, word)?, Vec::new()));
    }
    match word.bytes.iter().position(|byte| *byte == b'?') {
        Some(mark) => {
            let path = Template::compile_bytes(cx, word, &word.bytes[..mark])?;
            Ok((path, word.bytes[mark + 1..].to_vec()))
        }
        None => Ok((Template::compile(cx, word)?, Vec::new())),
    }
}
