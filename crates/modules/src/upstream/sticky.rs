//! `sticky` (`ngx_http_upstream_sticky_module`): the words of its three methods.
//!
//! nginx reads them in the order of the text and has a sentence for each that is wrong.

use std::sync::OnceLock;

use conf::zones::ZoneData;
use conf::{Directive, Error, Word};
use http::conf::compile::Cx;
use http::relay::sticky::{Expires, Flag, Learn, Moment, Sticky, StickyCookie, StickyMethod, is_samesite};
use http::variables::{Template, VariableId};

use super::{Done, ZONE_MIN};

/// How long a learnt session lasts where nothing else is said, milliseconds.
const LEARN_MS: u64 = 600_000;

/// The setter of `sticky`.
pub(super) fn sticky(_: &mut (), cx: &mut Cx<'_>, d: &Directive) -> Done {
    if cx.upstream.as_ref().is_none_or(|block| block.sticky.is_some()) {
        return Err(Error::at(&d.name, "\"sticky\" directive is duplicate"));
    }
    let method = d.arg(0)?;
    let sticky = match &*method.bytes {
        b"cookie" => cookie(cx, d)?,
        b"route" => route(cx, d)?,
        b"learn" => learn(cx, d)?,
        _ => return Err(unknown(method)),
    };
    if let Some(block) = &mut cx.upstream {
        block.sticky = Some(sticky);
    }
    Ok(())
}

fn unknown(word: &Word) -> Error {
    Error::at(word, format!("unknown parameter \"{}\"", word.as_str()))
}

fn refuse(word: &Word, why: &str) -> Error {
    Error::at(word, format!("\"sticky\" directive {why}"))
}

fn route(cx: &mut Cx<'_>, d: &Directive) -> Result<Sticky, Error> {
    let mut lookup = Vec::new();
    for word in d.args.iter().skip(1) {
        let Some(name) = word.bytes.strip_prefix(b"$") else {
            return Err(Error::at(word, format!("invalid variable name \"{}\"", word.as_str())));
        };
        lookup.push(cx.variable(name, word)?);
    }
    Ok(Sticky { lookup, method: StickyMethod::Route })
}

fn cookie(cx: &mut Cx<'_>, d: &Directive) -> Result<Sticky, Error> {
    let name = d.arg(1)?;
    if name.bytes.is_empty() {
        return Err(refuse(name, "empty cookie name"));
    }
    let mut cookie = StickyCookie {
        name: name.bytes.to_boxed(),
        expires: None,
        domain: None,
        httponly: Flag::Absent,
        secure: Flag::Absent,
        samesite: None,
        path: None,
    };
    for word in d.args.iter().skip(2) {
        cookie_parameter(cx, &mut cookie, word)?;
    }
    let lookup = vec![cx.variable(&[b"cookie_", &*name.bytes].concat(), name)?];
    Ok(Sticky { lookup, method: StickyMethod::Cookie(Box::new(cookie)) })
}

fn cookie_parameter(cx: &mut Cx<'_>, cookie: &mut StickyCookie, word: &Word) -> Done {
    let once = |name: &str, is_set: bool| {
        if is_set { Err(refuse(word, &format!("parameter \"{name}\" is duplicate"))) } else { Ok(()) }
    };
    let valued = |name: &str, value: &[u8]| {
        if value.is_empty() { Err(refuse(word, &format!("no value for \"{name}\""))) } else { Ok(()) }
    };
    if let Some(value) = word.after("domain=") {
        once("domain", cookie.domain.is_some())?;
        valued("domain", value)?;
        cookie.domain = Some(Template::compile_bytes(cx, word, value)?);
    } else if let Some(value) = word.after("path=") {
        once("path", cookie.path.is_some())?;
        valued("path", value)?;
        cookie.path = Some(value.into());
    } else if let Some(value) = word.after("expires=") {
        once("expires", cookie.expires.is_some())?;
        cookie.expires = Some(match value {
            b"max" => Expires::Max,
            _ => base::parse_time_sec(value)
                .map(Expires::After)
                .map_err(|_| refuse(word, "invalid \"expires\" parameter value"))?,
        });
    } else if word.is("httponly") {
        once("httponly", cookie.httponly == Flag::Present)?;
        cookie.httponly = Flag::Present;
    } else if word.is("secure") {
        once("secure", cookie.secure == Flag::Present)?;
        cookie.secure = Flag::Present;
    } else if let Some(value) = word.after("samesite=") {
        once("samesite", cookie.samesite.is_some())?;
        let samesite = Template::compile_bytes(cx, word, value)?;
        if samesite.as_literal().is_some_and(|value| !is_samesite(value)) {
            return Err(refuse(word, "invalid \"samesite\" parameter value"));
        }
        cookie.samesite = Some(samesite);
    } else {
        return Err(unknown(word));
    }
    Ok(())
}

/// A zone of `sticky learn`, with the upstream that it belongs to. What was learned is the group's.
struct LearnZone(String);

impl ZoneData for LearnZone {}

fn learn(cx: &mut Cx<'_>, d: &Directive) -> Result<Sticky, Error> {
    let (mut lookup, mut create, mut zone, mut timeout_ms) = (Vec::new(), Vec::new(), None, None);
    let mut moment = Moment::End;
    for word in d.args.iter().skip(1) {
        if let Some(value) = word.after("zone=") {
            if zone.is_some() {
                return Err(refuse(word, "duplicate zone"));
            }
            zone = Some(zone_of(word, value)?);
        } else if let Some(value) = word.after("timeout=") {
            if timeout_ms.is_some() {
                return Err(refuse(word, "duplicate timeout"));
            }
            let time = base::parse_time_ms(value).ok().filter(|ms| *ms > 0);
            timeout_ms = Some(time.ok_or_else(|| refuse(word, "invalid timeout"))?);
        } else if let Some(value) = word.after("create=") {
            create.push(variable(cx, word, "create", value)?);
        } else if let Some(value) = word.after("lookup=") {
            lookup.push(variable(cx, word, "lookup", value)?);
        } else if word.is("header") {
            moment = Moment::Head;
        } else {
            return Err(unknown(word));
        }
    }
    if lookup.is_empty() {
        return Err(refuse(&d.name, "\"lookup\" parameter is not specified"));
    }
    if create.is_empty() {
        return Err(refuse(&d.name, "\"create\" parameter is not specified"));
    }
    let Some((zone, zone_bytes)) = zone else {
        return Err(refuse(&d.name, "\"zone\" parameter is not specified"));
    };
    let host = cx.upstream.as_ref().map(|block| block.name.clone()).unwrap_or_default();
    let size = u64::try_from(zone_bytes).unwrap_or(u64::MAX);
    cx.zones.declare(&d.name, &zone, size)?.bind(LearnZone(host)).map_err(|LearnZone(other)| {
        Error::at(&d.name, format!("sticky zone \"{zone}\" is already used in upstream \"{other}\""))
    })?;
    let learn = Learn {
        create,
        zone,
        zone_bytes,
        timeout_ms: timeout_ms.unwrap_or(LEARN_MS),
        moment,
        table: OnceLock::new(),
    };
    Ok(Sticky { lookup, method: StickyMethod::Learn(learn) })
}

fn variable(cx: &mut Cx<'_>, word: &Word, parameter: &str, value: &[u8]) -> Result<VariableId, Error> {
    match value.strip_prefix(b"$") {
        Some(name) => cx.variable(name, word),
        None => Err(refuse(word, &format!("missing variable in the \"{parameter}\" parameter"))),
    }
}

fn zone_of(word: &Word, value: &[u8]) -> Result<(Box<str>, usize), Error> {
    let at = value.iter().position(|byte| *byte == b':');
    let at = at.ok_or_else(|| refuse(word, "zone size is not specified"))?;
    let (name, size) = (value.get(..at).unwrap_or_default(), value.get(at + 1..).unwrap_or_default());
    if name.is_empty() {
        return Err(refuse(word, "zone name is not specified"));
    }
    let size = base::parse_size(size).map_err(|_| refuse(word, "invalid zone size"))?;
    if size < ZONE_MIN {
        return Err(refuse(word, "zone is too small"));
    }
    Ok((String::from_utf8_lossy(name).into(), usize::try_from(size).unwrap_or(usize::MAX)))
}
