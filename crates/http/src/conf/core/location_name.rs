//! The name of a `location`, with its modifier, and the methods of `limit_except`.

use conf::{Directive, Error};
use proto::h1::Method;

use crate::conf::location::Kind;
use crate::regex::Case;

/// The bit that stands for a method in sets of methods.
#[must_use]
pub fn method_bit(method: Method) -> u32 {
    1 << method as u32
}

/// Kind, case and name of a `location` line (`ngx_http_core_location`).
///
/// # Errors
/// `invalid location modifier "…"`.
pub fn location_name(directive: &Directive) -> Result<(Kind, Case, Box<[u8]>), Error> {
    let first = directive.arg(0)?;
    if let Some(name) = directive.args.get(1) {
        let (kind, case) = match &*first.bytes {
            b"=" => (Kind::Exact, Case::Sensitive),
            b"^~" => (Kind::PrefixOnly, Case::Sensitive),
            b"~" => (Kind::Regex, Case::Sensitive),
            b"~*" => (Kind::Regex, Case::Insensitive),
            _ => {
                return Err(Error::at(first, format!("invalid location modifier \"{}\"", first.as_str())));
            }
        };
        return Ok((kind, case, name.bytes.to_boxed()));
    }
    // The modifier may stand directly before the name.
    let (kind, case, skip) = match &*first.bytes {
        [b'=', ..] => (Kind::Exact, Case::Sensitive, 1),
        [b'^', b'~', ..] => (Kind::PrefixOnly, Case::Sensitive, 2),
        [b'~', b'*', ..] => (Kind::Regex, Case::Insensitive, 2),
        [b'~', ..] => (Kind::Regex, Case::Sensitive, 1),
        [b'@', ..] => (Kind::Named, Case::Sensitive, 0),
        _ => (Kind::Prefix, Case::Sensitive, 0),
    };
    Ok((kind, case, first.bytes[skip..].into()))
}

/// The methods that a `limit_except` line lets through; GET includes HEAD.
///
/// # Errors
/// `invalid method "…"`.
pub fn limit_except_methods(directive: &Directive) -> Result<u32, Error> {
    let mut allowed = 0;
    for word in &directive.args {
        let method = Method::of(&word.bytes.to_ascii_uppercase());
        if method == Method::Other {
            return Err(Error::at(word, format!("invalid method \"{}\"", word.as_str())));
        }
        allowed |= method_bit(method);
        if method == Method::Get {
            allowed |= method_bit(Method::Head);
        }
    }
    Ok(allowed)
}
