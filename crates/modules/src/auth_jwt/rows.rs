//! The directives of `ngx_http_auth_jwt_module`.

use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, parse_number};
use http::conf::compile::Cx;
use http::rows::{Row, row, time, value};
use http::variables::{Cache, Template};

use super::variables::{Claim, Part};
use super::{AuthJwtSettings, Requirement, Source};

const ALL: Contexts = Contexts::HTTP_ALL;
const PLACES: Contexts = Contexts::HTTP_ALL.or(Contexts::LIMIT_EXCEPT);

pub(super) static ROWS: [Row<AuthJwtSettings>; 9] = [
    row("auth_jwt", PLACES, Arity::TAKE12, "off", "Asks for a JSON Web Token; the text is shown.", auth_jwt),
    row(
        "auth_jwt_claim_set",
        Contexts::HTTP,
        Arity::MORE2,
        "",
        "A variable with a claim.",
        |_: &mut AuthJwtSettings, cx, d| define(cx, d, Part::Claims),
    )
    .many(),
    row(
        "auth_jwt_header_set",
        Contexts::HTTP,
        Arity::MORE2,
        "",
        "A variable with a part of the head.",
        |_, cx, d| define(cx, d, Part::Header),
    )
    .many(),
    time("auth_jwt_key_cache", ALL, "0", "How long keys are kept.", |s, v| s.key_cache = v),
    row(
        "auth_jwt_key_file",
        PLACES,
        Arity::ONE,
        "",
        "A file with a JSON Web Key Set.",
        |s: &mut AuthJwtSettings, cx, d| {
            s.conf_prefix.clone_from(&cx.paths.conf_prefix);
            let source = Source::File(Template::compile(cx, d.arg(0)?)?);
            s.sources.push(source);
            Ok(())
        },
    )
    .many(),
    row(
        "auth_jwt_key_request",
        PLACES,
        Arity::ONE,
        "",
        "A URI that gives a JSON Web Key Set.",
        |s: &mut AuthJwtSettings, cx, d| {
            let source = Source::Request(Template::compile(cx, d.arg(0)?)?);
            s.sources.push(source);
            Ok(())
        },
    )
    .many(),
    time("auth_jwt_leeway", ALL, "0s", "By how much clocks may differ.", |s, v| {
        s.leeway = i64::try_from(v / 1000).unwrap_or(i64::MAX);
    }),
    value("auth_jwt_type", PLACES, Arity::ONE, "signed", "What tokens are like: signed.", |_, d| {
        let word = d.arg(0)?;
        match &*word.bytes {
            b"signed" => Ok(()),
            b"encrypted" | b"nested" => {
                let kind = word.as_str();
                Err(Error::at(
                    word,
                    format!("\"auth_jwt_type {kind}\" is not supported: tokens must be signed"),
                ))
            }
            _ => Err(Error::at(word, format!("invalid value \"{}\"", word.as_str()))),
        }
    }),
    row("auth_jwt_require", PLACES, Arity::MORE1, "", "Values that a token must bring.", auth_jwt_require)
        .many(),
];

fn auth_jwt(s: &mut AuthJwtSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let word = d.arg(0)?;
    (s.realm, s.token) = (None, None);
    if word.is("off") && d.args.len() == 1 {
        return Ok(());
    }
    s.realm = Some(Template::compile(cx, word)?);
    if let Some(word) = d.args.get(1) {
        let text = word
            .after("token=")
            .ok_or_else(|| Error::at(word, format!("invalid parameter \"{}\"", word.as_str())))?;
        s.token = Some(Template::compile_bytes(cx, word, text)?);
    }
    Ok(())
}

fn auth_jwt_require(s: &mut AuthJwtSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let mut requirement = Requirement { values: Vec::new(), status: 401 };
    for word in &d.args {
        match word.after("error=") {
            Some(digits) => match parse_number(digits) {
                Some(401) => requirement.status = 401,
                Some(403) => requirement.status = 403,
                _ => return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str()))),
            },
            None => requirement.values.push(Template::compile(cx, word)?),
        }
    }
    s.requirements.push(requirement);
    Ok(())
}

/// A variable with what lies under the names, one inside the other.
fn define(cx: &mut Cx<'_>, d: &Directive, part: Part) -> Result<(), Error> {
    let word = d.arg(0)?;
    let Some(name) = word.bytes.strip_prefix(b"$").filter(|name| !name.is_empty()) else {
        return Err(Error::at(word, format!("invalid variable name \"{}\"", word.as_str())));
    };
    let path = d.args.iter().skip(1).map(|name| name.as_str().into()).collect();
    let claim = Claim { part, path };
    cx.define_computed(&name.to_ascii_lowercase(), word, Arc::new(claim), Cache::No)?;
    Ok(())
}
