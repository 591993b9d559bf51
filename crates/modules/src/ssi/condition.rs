//! The expressions of `if` and `elif`: a value, `a = b`, `a != b`, and the same with `/an expression/`.

use http::regex::Regex;
use http::request::Request;
use os::errlog::Level;

use super::common::Common;
use super::parse::shown;
use super::text::{Base, Fault, evaluate};

/// Whether the expression holds.
pub(super) fn holds(r: &mut Request, expression: &[u8]) -> Result<bool, Fault> {
    let length = expression.iter().take_while(|byte| is_left(**byte)).count();
    let (left, rest) = expression.split_at_checked(length).unwrap_or_default();
    let left = evaluate(r, &left.to_ascii_lowercase(), Base::None)?;
    let rest = without_spaces(rest);
    if rest.is_empty() {
        return Ok(!left.is_empty());
    }
    let (wants, rest) = match rest {
        [b'=', rest @ ..] => (true, without_spaces(rest)),
        [b'!', b'=', rest @ ..] => (false, without_spaces(rest)),
        _ => return Err(invalid(r, expression)),
    };
    let is_equal = match rest {
        [b'/', pattern @ .., b'/'] => {
            let pattern = evaluate(r, pattern, Base::None)?;
            matches(r, &pattern, &left)?
        }
        [b'/', _, ..] => return Err(invalid(r, expression)),
        // An escaped slash begins a plain value.
        [b'\\', right @ ..] if right.first() == Some(&b'/') => evaluate(r, right, Base::None)? == left,
        right => evaluate(r, right, Base::None)? == left,
    };
    Ok(is_equal == wants)
}

fn is_left(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'$' | b'{' | b'}' | b'_' | b'"' | b'\'')
}

fn without_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    text.get(spaces..).unwrap_or_default()
}

fn invalid(r: &Request, expression: &[u8]) -> Fault {
    r.log(Level::Error, format_args!("invalid expression in \"{}\"", shown(expression)));
    Fault
}

/// Matches, and keeps the groups for the pages (`ngx_http_ssi_regex_match`).
fn matches(r: &mut Request, pattern: &[u8], subject: &[u8]) -> Result<bool, Fault> {
    let regex = match Regex::compile_once(pattern) {
        Ok(regex) => regex,
        Err(why) => {
            r.log(Level::Error, format_args!("{why}"));
            return Err(Fault);
        }
    };
    let Some(groups) = regex.captures(subject) else { return Ok(false) };
    let groups = groups.into_iter();
    let groups: Vec<Vec<u8>> = groups
        .map(|group| group.and_then(|(start, end)| subject.get(start..end)).unwrap_or_default().to_vec())
        .collect();
    let mut common = Common::of(r);
    common.set_captures(groups.clone());
    for (group, name) in regex.group_names() {
        let value = groups.get(group).map(Vec::as_slice).unwrap_or_default();
        let _ = common.set(name.to_ascii_lowercase().as_bytes(), value);
    }
    Ok(true)
}
