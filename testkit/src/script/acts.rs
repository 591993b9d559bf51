//! The indented lines of a script: what is sent, expected, seen, answered.
//!
//! Keywords are lower case, header names end in a colon or stand alone, so the two never meet.

use super::parse::raw_line;
use super::{ActKind, Expect, LogExpect, Saw, Send, StepKind};
use crate::message::Framing;
use crate::origin::ReplyAct;
use crate::text::unescape;

/// A line of a step of the given kind.
pub(super) fn act(step: &StepKind, text: &str) -> Result<ActKind, String> {
    if let Some(line) = text.strip_prefix('|') {
        return Ok(ActKind::Text(line.strip_prefix(' ').unwrap_or(line).to_owned()));
    }
    if let Some(rest) = text.strip_prefix("saw ") {
        return saw(rest.trim()).map(ActKind::Saw);
    }
    if let Some(rest) = text.strip_prefix('<') {
        return expect(rest.trim()).map(ActKind::Expect);
    }
    match step {
        StepKind::Talk { request: None, .. } | StepKind::Client(_) => {
            if let Some(bytes) = text.strip_prefix(">>") {
                return escaped(bytes.strip_prefix(' ').unwrap_or(bytes)).map(Send::Bytes).map(ActKind::Send);
            }
            if let Some(line) = text.strip_prefix('>') {
                return escaped(line.strip_prefix(' ').unwrap_or(line)).map(Send::Line).map(ActKind::Send);
            }
            raw_line(text)?.map(ActKind::Send).ok_or_else(|| "unknown line".into())
        }
        StepKind::Talk { .. } => match text.strip_prefix('>') {
            Some(rest) => send(rest.trim_start()).map(ActKind::Send),
            None => Err("unknown line".into()),
        },
        StepKind::File { .. } => match text.split_once(' ') {
            None if text == "=" => Ok(ActKind::Whole(String::new())),
            Some(("=", whole)) => escaped(whole).map(ActKind::Whole),
            Some(("pattern", length)) => number(length).map(ActKind::Pattern),
            Some(("from", path)) => Ok(ActKind::From(path.trim().to_owned())),
            _ => Err("want \"| LINE\", \"= TEXT\", \"pattern LENGTH\" or \"from PATH\"".into()),
        },
        StepKind::Log(_) => log(text).map(ActKind::Log),
        _ => Err("unknown line".into()),
    }
}

fn send(text: &str) -> Result<Send, String> {
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Send::NoHeader(name.to_owned()));
    }
    match text.split_once(' ').unwrap_or((text, "")) {
        ("=", body) => escaped(body).map(Send::Body),
        ("+", chunk) => escaped(chunk).map(Send::Chunk),
        ("pattern", length) => number(length).map(Send::Pattern),
        _ => match text.split_once(':') {
            Some((name, value)) => escaped(value.trim_start()).map(|v| Send::Header(name.to_owned(), v)),
            None => Err("want \"> Name: value\", \"> !Name\", \"> = BODY\", \"> + CHUNK\"".into()),
        },
    }
}

fn expect(text: &str) -> Result<Expect, String> {
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Expect::Absent(name.to_owned()));
    }
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    if word.len() == 3
        && let Ok(status) = word.parse()
    {
        return Ok(Expect::Status(status, (!rest.is_empty()).then(|| rest.to_owned())));
    }
    if let Some((name, value)) = header(text) {
        return Ok(Expect::Header(name, value));
    }
    let rest = rest.to_owned();
    Ok(match word {
        "0.9" => Expect::Http09,
        "version" => Expect::Version(rest),
        "count" => {
            let (name, count) = named_count(&rest)?;
            Expect::Count(name, count)
        }
        "headers" => Expect::Names(framed_names(&rest)),
        "body" => Expect::Body(escaped(&rest)?),
        "has" => Expect::Has(escaped(&rest)?),
        "lacks" => Expect::Lacks(escaped(&rest)?),
        "like" => Expect::Like(escaped(&rest)?),
        "length" => Expect::Length(number(&rest)?),
        "pattern" => Expect::Pattern(number(&rest)?),
        "file" => Expect::File(rest),
        "gunzip" => Expect::Gunzip(escaped(&rest)?),
        "framing" => Expect::Framing(framing(&rest)?),
        "trailer" => {
            let (name, value) = header(&rest).ok_or("want: trailer Name: value")?;
            Expect::Trailer(name, value)
        }
        "truncated" => Expect::Truncated,
        "closed" => Expect::Closed,
        "ended" => Expect::Ended,
        "open" => Expect::Open,
        "refused" => Expect::Refused(rest),
        "nothing" => Expect::Nothing,
        "bytes" => Expect::Bytes(escaped(&rest)?),
        "within" => Expect::Within(millis(&rest)?),
        "after" => Expect::After(millis(&rest)?),
        "exit" => Expect::Exit(rest.parse().map_err(|_| "want a number")?),
        "stderr" => Expect::Stderr(rest),
        "stdout" => Expect::Stdout(rest),
        "silent" => Expect::Silent,
        name if rest.is_empty() && name.starts_with(|c: char| c.is_ascii_uppercase()) => {
            Expect::Present(name.to_owned())
        }
        _ => return Err("unknown expectation".into()),
    })
}

fn saw(text: &str) -> Result<Saw, String> {
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Saw::Absent(name.to_owned()));
    }
    if let Some((name, value)) = header(text) {
        return Ok(Saw::Header(name, value));
    }
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match word {
        "nothing" => Saw::Requests(0),
        "body" => Saw::Body(escaped(rest)?),
        "pattern" => Saw::Pattern(number(rest)?),
        "framing" => Saw::Framing(framing(rest)?),
        "headers" => Saw::Names(framed_names(rest)),
        "count" => {
            let (name, count) = named_count(rest)?;
            Saw::Count(name, count)
        }
        "request" => Saw::Select(number(rest)?),
        "at" => Saw::At(number(rest)?),
        "order" => Saw::Order(rest.split_whitespace().map(number).collect::<Result<_, _>>()?),
        "reused" => Saw::Reused,
        "fresh" => Saw::Fresh,
        count if rest.starts_with("request") => Saw::Requests(number(count)?),
        method if method.starts_with(|c: char| c.is_ascii_uppercase()) && !rest.is_empty() => {
            Saw::Line(text.to_owned())
        }
        _ => return Err("unknown line".into()),
    })
}

fn log(text: &str) -> Result<LogExpect, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match word {
        "has" => LogExpect::Has(rest.to_owned()),
        "lacks" => LogExpect::Lacks(rest.to_owned()),
        "line" => LogExpect::Line(rest.to_owned()),
        "count" => {
            let (count, text) = rest.split_once(' ').ok_or("want: count N TEXT")?;
            LogExpect::Count(number(count)?, text.to_owned())
        }
        _ => return Err("want \"has\", \"lacks\", \"line\" or \"count\"".into()),
    })
}

/// A line of an origin's reply.
pub(super) fn reply_act(text: &str) -> Result<ReplyAct, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    if word.len() == 3 && word.parse::<u16>().is_ok() {
        let reason = if rest.is_empty() { " " } else { "" };
        return Ok(ReplyAct::Status(format!("{text}{reason}")));
    }
    Ok(match word {
        "=" => ReplyAct::Text(escaped(rest)?),
        "+" => ReplyAct::Chunk(escaped(rest)?),
        "pattern" => ReplyAct::Pattern(number(rest)?),
        "trailer" => {
            let (name, value) = header(rest).ok_or("want: trailer Name: value")?;
            ReplyAct::Trailer(name, value)
        }
        "echo" => ReplyAct::Echo,
        "raw" => ReplyAct::Raw(escaped(rest)?),
        "wire" => ReplyAct::Wire(escaped(rest)?),
        "stderr" => ReplyAct::Stderr(escaped(rest)?),
        "wait" => ReplyAct::Wait(millis(rest)?),
        "hold" => ReplyAct::Hold(rest.to_owned()),
        "unended" => ReplyAct::Unended,
        "lengthless" => ReplyAct::Lengthless,
        "take" => ReplyAct::Take,
        "close" => ReplyAct::Close,
        "stall" => ReplyAct::Stall,
        "hear" => ReplyAct::Hear(escaped(rest)?),
        "tunnel" => ReplyAct::Tunnel,
        "drain" => ReplyAct::Drain,
        _ => match text.split_once(':') {
            Some((name, value)) if !name.contains(' ') => {
                ReplyAct::Header(name.to_owned(), escaped(value.trim_start())?)
            }
            _ => return Err("unknown reply".into()),
        },
    })
}

/// `Name: value`, when the text begins with a word that ends in a colon.
fn header(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(':')?;
    (!name.is_empty() && !name.contains(' ')).then(|| (name.to_owned(), value.trim_start().to_owned()))
}

/// The text, once its escapes were found right.
fn escaped(text: &str) -> Result<String, String> {
    unescape(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn named_count(text: &str) -> Result<(String, usize), String> {
    let (name, count) = text.split_once(' ').ok_or("want: count Name N")?;
    Ok((name.to_owned(), number(count)?))
}

/// Names between commas.
pub(super) fn framed_names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn framing(text: &str) -> Result<Framing, String> {
    match text {
        "none" => Ok(Framing::None),
        "length" => Ok(Framing::Length),
        "chunked" => Ok(Framing::Chunked),
        "close" => Ok(Framing::Close),
        _ => Err("want none, length, chunked or close".into()),
    }
}

pub(super) fn number(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| "want a number".into())
}

/// A time such as `300ms` or `2s`.
pub(super) fn millis(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, factor) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').unwrap_or_default(), 1000),
    };
    digits.parse::<u64>().map(|n| n * factor).map_err(|_| "want a time such as 300ms or 2s".into())
}
