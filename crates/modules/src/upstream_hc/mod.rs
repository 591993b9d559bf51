//! `ngx_http_upstream_hc_module` of nginx's commercial edition and its twin in stream: `health_check`; what `match` says
//! is read in `matching.rs` and `talking.rs`.
//!
//! Which upstream a location's checks are for is known when all was read; `match` may stand below its use.

mod matching;
mod talking;

use std::collections::HashMap;
use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error, Word};
use http::conf::LocationId;
use http::conf::compile::Cx;
use http::conf::location::Content;
use http::module::{Module, Settings, Slot};
use http::relay::check::{CheckKind, Expect, HealthCheck, Talk};
use http::rows::{Row, row, time};
use http::side::Side;
use upstream::Checked;

/// `ngx_http_upstream_hc_module`.
pub struct UpstreamHc;

static SLOT: Slot = Slot::new();

type Done = Result<(), Error>;

#[rustfmt::skip]
static ROWS: [Row<HcSettings>; 12] = [
    row("health_check", Contexts::LOCATION, Arity::ANY, "", "Asks the servers of the upstream at intervals whether they are well.", health_check).many(),
    time("health_check_timeout", Contexts::HTTP_ALL, "0", "Longest time of one check; zero leaves it to the time-outs of the location.", |s, ms| s.timeout_ms = (ms > 0).then_some(ms)),
    row("match", Contexts::HTTP, Arity::ONE, "", "What the answer to a check must be.", matching::block).block(Contexts::MATCH),
    row("health_check", Contexts::STREAM_SERVER, Arity::ANY, "", "Asks the servers of the upstream at intervals whether they are well.", health_check).many(),
    time("health_check_timeout", Contexts::STREAM_ALL, "5s", "Longest time of one check.", |s, ms| s.timeout_ms = (ms > 0).then_some(ms)),
    row("match", Contexts::STREAM, Arity::ONE, "", "What is said in a check, and what must be heard.", talking::block).block(Contexts::STREAM_MATCH),
    row("send", Contexts::STREAM_MATCH, Arity::ONE, "", "What the server is sent.", talking::send),
    row("expect", Contexts::STREAM_MATCH, Arity::TAKE12, "", "What must be heard from it.", talking::expect),
    row("status", Contexts::MATCH, Arity::MORE1, "", "The statuses of which the answer's must be one.", matching::status),
    row("header", Contexts::MATCH, Arity::MORE1, "", "What a field of the answer must be.", matching::header).many(),
    row("body", Contexts::MATCH, Arity::TWO, "", "What the body of the answer must match.", matching::body).many(),
    row("require", Contexts::MATCH, Arity::MORE1, "", "Variables that must be neither empty nor zero.", matching::require).many(),
];

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct HcSettings {
    checks: Arc<Vec<Draft>>,
    timeout_ms: Option<u64>,
}

impl Settings for HcSettings {
    fn inherited(&self) -> Option<Self> {
        (!self.checks.is_empty()).then(|| Self { checks: Arc::default(), ..self.clone() })
    }
}

/// What the module has once.
#[derive(Default)]
pub struct Matches {
    blocks: HashMap<Box<str>, Arc<Expect>>,
    current: Option<Expect>,
    /// Those of `stream`.
    talks: HashMap<Box<str>, Arc<Talk>>,
    current_talk: Option<Talk>,
}

/// A `health_check` line whose location is not finished yet.
#[derive(Clone)]
struct Draft {
    location: LocationId,
    word: Word,
    matching: Option<Word>,
    kind: CheckKind,
    interval_ms: u64,
    jitter_ms: u64,
    fails: u32,
    passes: u32,
    port: Option<u16>,
    checked: Checked,
    keepalive_ms: Option<u64>,
}

impl Module for UpstreamHc {
    const NAME: &'static str = "ngx_http_upstream_hc_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_upstream_hc_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = HcSettings;
    type Main = Matches;

    fn rows() -> &'static [Row<HcSettings>] {
        &ROWS
    }

    fn finish(main: &mut Matches, cx: &mut Cx<'_>) -> Done {
        let mut made = Vec::new();
        for location in cx.locations() {
            let settings = location.settings::<Self>();
            for draft in settings.checks.iter() {
                let refuse = |why| Err(Error::at(&draft.word, why));
                let passing = match &location.content {
                    Some(Content::Relay(passing)) => Some(*passing),
                    Some(Content::Session(serve)) => serve.passing(),
                    _ => None,
                };
                let Some(passing) = passing else {
                    return refuse(match cx.side {
                        Side::Http => {
                            "\"health_check\" needs an upstream that the location passes requests to"
                        }
                        Side::Stream => {
                            "\"health_check\" needs an upstream that the server passes sessions to"
                        }
                    });
                };
                let protocol = passing(location);
                if matches!(draft.kind, CheckKind::Grpc { .. }) && !protocol.is_grpc() {
                    return refuse("\"health_check\" with \"type=grpc\" needs \"grpc_pass\"");
                }
                let Some(upstream) = protocol.upstream() else {
                    return refuse("\"health_check\" needs an upstream that is known without variables");
                };
                let check = draft.made(main, passing, settings.timeout_ms)?;
                made.push((upstream, draft.word.clone(), check));
            }
        }
        for (upstream, word, check) in made {
            match cx.upstreams.block(upstream) {
                Some(block) if block.zone.is_some() => {}
                _ => {
                    let sentence = "\"health_check\" requires an upstream group in shared memory";
                    return Err(Error::at(&word, sentence));
                }
            }
            cx.upstreams.check(upstream, check.checked);
            cx.checks.push((upstream, Arc::new(check)));
        }
        Ok(())
    }
}

impl Draft {
    fn made(
        &self,
        main: &Matches,
        passing: http::relay::Passing,
        timeout_ms: Option<u64>,
    ) -> Result<HealthCheck, Error> {
        let (mut kind, mut expect) = (self.kind.clone(), Arc::default());
        let name = self.matching.as_ref().map_or(Box::default(), |word| Box::from(&*word.as_str()));
        if let Some(word) = &self.matching {
            let missing = || Error::at(word, format!("match \"{name}\" not found"));
            match &mut kind {
                CheckKind::Talk(talk) => {
                    let said = Talk::clone(main.talks.get(&name).ok_or_else(missing)?);
                    *talk = Arc::new(Talk { is_by_datagrams: talk.is_by_datagrams, ..said });
                }
                _ => expect = main.blocks.get(&name).cloned().ok_or_else(missing)?,
            }
        }
        Ok(HealthCheck {
            name,
            location: self.location,
            passing,
            kind,
            interval_ms: self.interval_ms,
            jitter_ms: self.jitter_ms,
            fails: self.fails,
            passes: self.passes,
            port: self.port,
            expect,
            checked: self.checked,
            keepalive_ms: self.keepalive_ms,
            timeout_ms,
        })
    }
}

fn health_check(settings: &mut HcSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let mut draft = Draft {
        location: cx.block.id(),
        word: d.name.clone(),
        matching: None,
        kind: match cx.side {
            Side::Http => CheckKind::Request { uri: b"/"[..].into() },
            Side::Stream => CheckKind::Talk(Arc::default()),
        },
        interval_ms: 5000,
        jitter_ms: 0,
        fails: 1,
        passes: 1,
        port: None,
        checked: Checked::Optional,
        keepalive_ms: None,
    };
    for word in &d.args {
        if cx.side == Side::Stream {
            check_of_stream(word)?;
        }
        parameter(&mut draft, word)?;
    }
    Arc::make_mut(&mut settings.checks).push(draft);
    Ok(())
}

/// Refuses parameters that only checks of `http` have.
fn check_of_stream(word: &Word) -> Done {
    let is_of_http = [&b"uri="[..], b"keepalive_time=", b"type=", b"grpc_"];
    if is_of_http.iter().any(|name| word.bytes.starts_with(name)) {
        return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str())));
    }
    Ok(())
}

/// The parameters behind `type=grpc`, which comes last: what else there is does not go together with it.
fn grpc_parameter(draft: &mut Draft, word: &Word) -> Done {
    let invalid = || Error::at(word, format!("invalid parameter \"{}\"", word.as_str()));
    let CheckKind::Grpc { service, status } = &mut draft.kind else {
        return Err(Error::at(word, format!("parameter \"{}\" must follow \"type=grpc\"", word.as_str())));
    };
    if let Some(value) = word.after("grpc_service=") {
        *service = value.into();
    } else if let Some(value) = word.after("grpc_status=") {
        let number = conf::parse_number(value).and_then(|number| u32::try_from(number).ok());
        *status = Some(number.ok_or_else(invalid)?);
    } else {
        return Err(invalid());
    }
    Ok(())
}

fn parameter(draft: &mut Draft, word: &Word) -> Done {
    let invalid = || Error::at(word, format!("invalid parameter \"{}\"", word.as_str()));
    if matches!(draft.kind, CheckKind::Grpc { .. }) || word.bytes.starts_with(b"grpc_") {
        return grpc_parameter(draft, word);
    }
    let time = |value: &[u8]| base::parse_time_ms(value).map_err(|_| invalid());
    let count = |value: &[u8]| {
        let number = conf::parse_number(value).filter(|number| *number > 0);
        number.and_then(|number| u32::try_from(number).ok()).ok_or_else(invalid)
    };
    if let Some(value) = word.after("interval=") {
        draft.interval_ms = time(value)?;
        if draft.interval_ms == 0 {
            return Err(invalid());
        }
    } else if let Some(value) = word.after("jitter=") {
        draft.jitter_ms = time(value)?;
    } else if let Some(value) = word.after("fails=") {
        draft.fails = count(value)?;
    } else if let Some(value) = word.after("passes=") {
        draft.passes = count(value)?;
    } else if let Some(value) = word.after("uri=") {
        draft.kind = CheckKind::Request { uri: uri(value).ok_or_else(invalid)? };
    } else if let Some(value) = word.after("port=") {
        let port = conf::parse_number(value).and_then(|port| u16::try_from(port).ok());
        draft.port = Some(port.filter(|port| *port > 0).ok_or_else(invalid)?);
    } else if let Some(value) = word.after("match=") {
        let mut name = word.clone();
        name.bytes = value.into();
        draft.matching = Some(name);
    } else if let Some(value) = word.after("keepalive_time=") {
        draft.keepalive_ms = Some(time(value)?);
    } else if let (CheckKind::Talk(talk), true) = (&mut draft.kind, word.is("udp")) {
        Arc::make_mut(talk).is_by_datagrams = true;
    } else if word.is("mandatory") {
        draft.checked = Checked::Mandatory;
    } else if word.is("persistent") {
        if draft.checked != Checked::Mandatory {
            return Err(Error::at(word, "\"persistent\" requires \"mandatory\""));
        }
        draft.checked = Checked::Persistent;
    } else if word.is("type=tcp") {
        draft.kind = CheckKind::Connect;
    } else if word.is("type=http") {
        // It is what a check does by itself.
    } else if word.is("type=grpc") {
        let is_plain = matches!(&draft.kind, CheckKind::Request { uri } if **uri == *b"/");
        if !is_plain || draft.matching.is_some() {
            return Err(Error::at(word, "\"type=grpc\" does not go together with \"uri\" or \"match\""));
        }
        draft.kind = CheckKind::Grpc { service: Box::default(), status: None };
    } else {
        return Err(invalid());
    }
    Ok(())
}

/// A path, perhaps with arguments, of bytes that a request line may hold.
fn uri(value: &[u8]) -> Option<Box<[u8]>> {
    let is_plain = value.iter().all(|byte| (b'!'..=b'~').contains(byte) && *byte != b'#');
    (value.first() == Some(&b'/') && is_plain).then(|| value.into())
}
