//! The script's name and what follows it: `fastcgi_split_path_info`, `fastcgi_index` and their variables.
//!
//! The expression is matched once for a request's parameters, which mostly ask for it several times.

use std::ops::Range;
use std::sync::Arc;

use conf::{Directive, Error};
use http::conf::compile::Cx;
use http::regex::{Case, Regex};
use http::request::Request;
use http::variables::Variable;

use super::{Fastcgi, FastcgiSettings};

/// The variables.
pub(super) static VARIABLES: [Variable; 2] =
    [Variable::new("fastcgi_script_name", script_name), Variable::new("fastcgi_path_info", path_info)];

/// Where the parts lie in the path of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    script: Range<usize>,
    path_info: Range<usize>,
}

/// The parts of the path that a request was passed on with.
struct Remembered(Parts);

/// The setter of `fastcgi_split_path_info`.
pub(super) fn set(s: &mut FastcgiSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    let regex = Regex::compile(cx, word, &word.bytes, Case::Sensitive)?;
    if regex.groups() != 2 {
        return Err(Error::at(word, format!("pattern \"{}\" must have 2 captures", word.as_str())));
    }
    s.split = Some(Arc::new(regex));
    Ok(())
}

/// Matches the expression for all parameters of this request.
#[inline(never)]
pub(super) fn remember(r: &mut Request) {
    if let Some(regex) = &r.location().settings::<Fastcgi>().split {
        let parts = split(regex, &r.uri);
        r.contexts.put(Remembered(parts));
    }
}

/// `ngx_http_fastcgi_split`: without a match all of the path is the script's name.
fn split(regex: &Regex, uri: &[u8]) -> Parts {
    let group = |groups: &[Option<(usize, usize)>], index: usize| {
        groups.get(index).copied().flatten().map_or(0..0, |(start, end)| start..end)
    };
    match regex.captures(uri) {
        Some(groups) => Parts { script: group(&groups, 1), path_info: group(&groups, 2) },
        None => Parts { script: 0..uri.len(), path_info: 0..0 },
    }
}

fn parts(r: &Request, settings: &FastcgiSettings) -> Parts {
    if let Some(Remembered(parts)) = r.contexts.get::<Remembered>() {
        return parts.clone();
    }
    match &settings.split {
        Some(regex) => split(regex, &r.uri),
        None => Parts { script: 0..r.uri.len(), path_info: 0..0 },
    }
}

fn script_name(r: &Request, out: &mut Vec<u8>) -> bool {
    let settings = r.location().settings::<Fastcgi>();
    let script = r.uri.get(parts(r, settings).script).unwrap_or_default();
    out.extend_from_slice(script);
    if script.last() == Some(&b'/') {
        out.extend_from_slice(&settings.index);
    }
    true
}

fn path_info(r: &Request, out: &mut Vec<u8>) -> bool {
    let settings = r.location().settings::<Fastcgi>();
    out.extend_from_slice(r.uri.get(parts(r, settings).path_info).unwrap_or_default());
    true
}
