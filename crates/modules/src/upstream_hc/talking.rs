//! `match` of `stream`: what a check sends and what it must hear.
//!
//! Bytes that cannot be written otherwise are written `\xHH`.

use std::sync::Arc;

use conf::{Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::regex::{Case, Regex};
use http::relay::check::{Reply, Talk};

use super::{Done, HcSettings, UpstreamHc};

/// The setter of `match`.
pub(super) fn block(_: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let name = d.arg(0)?;
    if cx.main::<UpstreamHc>().talks.contains_key(&*name.as_str()) {
        return Err(Error::at(name, format!("duplicate match \"{}\"", name.as_str())));
    }
    cx.main::<UpstreamHc>().current_talk = Some(Talk::default());
    let done = cx.read_lines(d.body(), Contexts::STREAM_MATCH);
    let main = cx.main::<UpstreamHc>();
    let talk = main.current_talk.take().unwrap_or_default();
    done?;
    main.talks.insert(name.as_str().into(), Arc::new(talk));
    Ok(())
}

fn current(cx: &mut Cx<'_>, set: impl FnOnce(&mut Talk)) -> Done {
    if let Some(talk) = &mut cx.main::<UpstreamHc>().current_talk {
        set(talk);
    }
    Ok(())
}

/// `send "text"`.
pub(super) fn send(_: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let text = unescaped(&d.arg(0)?.bytes);
    current(cx, |talk| talk.send = text.into())
}

/// `expect "text"`, `expect ~ pattern` and `expect ~* pattern`.
pub(super) fn expect(_: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let reply = match &d.args[..] {
        [text] if matches!(text.bytes.first(), Some(b'~')) && text.bytes.len() > 1 => {
            pattern(cx, text, text.bytes.get(1..).unwrap_or_default(), Case::Sensitive)?
        }
        [text] => Reply::Text(unescaped(&text.bytes).into()),
        [operator, text] if operator.is("~") => pattern(cx, text, &text.bytes, Case::Sensitive)?,
        [operator, text] if operator.is("~*") => pattern(cx, text, &text.bytes, Case::Insensitive)?,
        words => {
            let word = words.first().unwrap_or(&d.name);
            return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str())));
        }
    };
    current(cx, |talk| talk.expect = Some(reply))
}

fn pattern(cx: &mut Cx<'_>, word: &conf::Word, text: &[u8], case: Case) -> Result<Reply, Error> {
    Ok(Reply::Pattern(Regex::compile(cx, word, text, case)?))
}

/// The text with a byte in the place of each `\xHH`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        if let Some(byte) = rest.strip_prefix(b"\\x").and_then(hex) {
            out.push(byte);
            rest = rest.get(4..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}

fn hex(text: &[u8]) -> Option<u8> {
    let digits = text.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn escapes() {
        let check = |text: &str, expected: &[u8]| assert_eq!(unescaped(text.as_bytes()), expected, "{text}");
        check("PING", b"PING");
        check(r"\x00\xfF", &[0, 0xff]);
        check(r"a\x41b", b"aAb");
        check(r"\x4", br"\x4");
        check(r"\xg0", br"\xg0");
        check(r"\", br"\");
        check("", b"");
    }
}
