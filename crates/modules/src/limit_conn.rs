//! `ngx_http_limit_conn_module`: how many requests of a key may be under way at once.
//!
//! What is counted lies with the request and is counted no more when the request ends, however it does.

use http::conf::Location;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use base::limit::{ConnectionTable, Entered, Held};
use conf::zones::{Zone, ZoneData, name_and_size};
use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::logging::LIMIT_LEVELS;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, flag, refused, row, value};
use http::variables::{Template, Variable};
use os::errlog::Level;

/// `ngx_http_limit_conn_module`.
pub struct LimitConn;

static SLOT: Slot = Slot::new();

/// A key's longest value, bytes.
const KEY_MAX: usize = 255;

/// A zone of `limit_conn_zone`.
struct Counted {
    key: Template,
    key_text: Box<str>,
    size: u64,
    table: OnceLock<Arc<ConnectionTable>>,
}

impl Counted {
    fn table(&self) -> &Arc<ConnectionTable> {
        self.table.get_or_init(|| ConnectionTable::new(self.size))
    }
}

impl ZoneData for Counted {
    fn adopt(&self, name: &str, earlier: &Self) -> Result<(), String> {
        if self.key_text != earlier.key_text {
            return Err(format!(
                "limit_conn_zone \"{name}\" uses the \"{}\" key while previously it used the \"{}\" key",
                self.key_text, earlier.key_text
            ));
        }
        let _ = self.table.set(Arc::clone(earlier.table()));
        Ok(())
    }
}

#[derive(Clone)]
struct ConnLimit {
    zone: Zone<Counted>,
    most: u32,
}

/// Settings of one block.
#[derive(Clone)]
pub struct LimitConnSettings {
    limits: Arc<Vec<ConnLimit>>,
    is_inherited: bool,
    log_level: Level,
    status: u16,
    dry_run: bool,
}

impl Default for LimitConnSettings {
    fn default() -> Self {
        Self {
            limits: Arc::default(),
            is_inherited: false,
            log_level: Level::Error,
            status: 503,
            dry_run: false,
        }
    }
}

impl Settings for LimitConnSettings {
    fn enter(&mut self) {
        self.is_inherited = true;
    }
}

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<LimitConnSettings>; 6] = [
    row(
        "limit_conn_zone",
        Contexts::HTTP,
        Arity::TWO,
        "",
        "Defines a zone for numbers of connections.",
        zone,
    )
    .many(),
    row("limit_conn", ALL, Arity::TWO, "", "Limits the number of connections.", limit_conn).many(),
    value("limit_conn_log_level", ALL, Arity::ONE, "error", "Level at which refusals are logged.", |s, d| {
        d.one_of(&LIMIT_LEVELS).map(|level| s.log_level = level)
    }),
    value("limit_conn_status", ALL, Arity::ONE, "503", "Status of refused requests.", |s, d| {
        d.number_between(400, 599).map(|status| s.status = u16::try_from(status).unwrap_or(503))
    }),
    flag("limit_conn_dry_run", ALL, "off", "Counts and logs without limiting.", |s, v| s.dry_run = v),
    refused("limit_zone", Contexts::HTTP, Arity::ANY, "nginx replaced it by \"limit_conn_zone\""),
];

static VARIABLES: [Variable; 1] = [Variable::new("limit_conn_status", |r, out| {
    out.extend_from_slice(r.limit_conn_status().unwrap_or_default().as_bytes());
    r.limit_conn_status().is_some()
})];

impl Module for LimitConn {
    const NAME: &'static str = "ngx_http_limit_conn_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = LimitConnSettings;
    type Main = ();

    fn rows() -> &'static [Row<LimitConnSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::PreAccess, &LimitConn);
        registry.variables(&VARIABLES);
    }
}

fn zone(_: &mut LimitConnSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (key_word, word) = (d.arg(0)?, d.arg(1)?);
    let key = Template::compile(cx, key_word)?;
    let Some(text) = word.after("zone=") else {
        return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str())));
    };
    let (name, size) = name_and_size(word, text)?;
    if name.is_empty() {
        return Err(Error::at(&d.name, format!("\"{}\" must have \"zone\" parameter", d.name.as_str())));
    }
    let data = Counted { key, key_text: key_word.as_str().into(), size, table: OnceLock::new() };
    cx.zones.declare(&d.name, name, size)?.bind(data).map_err(|known| {
        let (directive, key) = (d.name.as_str(), &known.key_text);
        Error::at(&d.name, format!("{directive} \"{name}\" is already bound to key \"{key}\""))
    })
}

fn limit_conn(s: &mut LimitConnSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (name, number) = (d.arg(0)?, d.arg(1)?);
    let zone = cx.zones.refer(name, &name.as_str())?;
    if std::mem::take(&mut s.is_inherited) {
        s.limits = Arc::default();
    }
    if s.limits.iter().any(|limit| limit.zone == zone) {
        return Err(Error::on(d, "is duplicate"));
    }
    let most = number
        .number()
        .filter(|count| *count > 0)
        .ok_or_else(|| Error::at(number, format!("invalid number of connections \"{}\"", number.as_str())))?;
    if most > 65535 {
        return Err(Error::at(number, "connection limit must be less 65536"));
    }
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    Arc::make_mut(&mut s.limits).push(ConnLimit { zone, most });
    Ok(())
}

/// What counts a request until it ends.
struct Tally(#[expect(dead_code, reason = "its end is what matters")] Vec<Held>);

impl PhaseHandler for LimitConn {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().limits.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        if r.limit_conn_status().is_some() {
            return Verdict::Declined;
        }
        let cycle = Rc::clone(&r.cycle);
        let settings = cycle.http.location(r.location).settings::<Self>();
        match settings.count(r) {
            Ok(held) if held.is_empty() => Verdict::Declined,
            Ok(held) => {
                r.set_limit_conn_status("PASSED");
                r.hold(Tally(held));
                Verdict::Declined
            }
            Err(Refused) if settings.dry_run => {
                r.set_limit_conn_status("REJECTED_DRY_RUN");
                Verdict::Declined
            }
            Err(Refused) => {
                r.set_limit_conn_status("REJECTED");
                Verdict::Finish(Outcome::Status(settings.status))
            }
        }
    }
}

/// A limit has refused the request, and it is counted nowhere.
struct Refused;

impl LimitConnSettings {
    fn count(&self, r: &Request) -> Result<Vec<Held>, Refused> {
        let mut held = Vec::with_capacity(self.limits.len());
        for limit in self.limits.iter() {
            let Some(counted) = limit.zone.data() else { continue };
            let entered = counted.key.with_value(r, |key| {
                if key.len() > KEY_MAX {
                    let (name, shown) = (&counted.key_text, String::from_utf8_lossy(key));
                    r.log(
                        Level::Error,
                        format_args!(
                            "the value of the \"{name}\" key is more than {KEY_MAX} bytes: \"{shown}\""
                        ),
                    );
                    return None;
                }
                (!key.is_empty()).then(|| counted.table().enter(key, limit.most))
            });
            let name = limit.zone.name();
            match entered {
                None => {}
                Some(Entered::Held(one)) => held.push(one),
                Some(Entered::Exceeded) => {
                    let dry_run = if self.dry_run { ", dry run," } else { "" };
                    r.log(self.log_level, format_args!("limiting connections{dry_run} by zone \"{name}\""));
                    return Err(Refused);
                }
                Some(Entered::Full) => {
                    r.log(
                        Level::Crit,
                        format_args!("ngx_slab_alloc() failed: no memory in limit_conn_zone \"{name}\""),
                    );
                    return Err(Refused);
                }
            }
        }
        Ok(held)
    }
}
