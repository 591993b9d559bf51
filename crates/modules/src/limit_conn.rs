//! `ngx_http_limit_conn_module`: how many requests of a key may be under way at once.
//!
//! What is counted lies with the request and is counted no more when the request ends, however it does.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use base::limit::{ConnectionTable, Entered, Held};
use conf::zones::{Zone, ZoneData, name_and_size};
use conf::{Arity, Contexts, Directive, Error};
use http::conf::Location;
use http::conf::compile::Cx;
use http::limits::{self, Limits, Line, ZoneKey};
use http::module::{Module, Registry, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, flag, refused, row, value};
use http::variables::Variable;
use os::errlog::Level;

/// `ngx_http_limit_conn_module`.
pub struct LimitConn;

static SLOT: Slot = Slot::new();

/// A key's longest value, bytes.
const KEY_MAX: usize = 255;

/// A zone of `limit_conn_zone`.
pub struct Counted {
    key: ZoneKey,
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
        self.key.succeeds("limit_conn_zone", name, &earlier.key)?;
        let _ = self.table.set(Arc::clone(earlier.table()));
        Ok(())
    }
}

impl limits::Counted for Counted {
    fn key(&self) -> &ZoneKey {
        &self.key
    }
}

/// One `limit_conn` line.
#[derive(Clone)]
pub struct ConnLimit {
    zone: Zone<Counted>,
    most: u32,
}

impl Line for ConnLimit {
    type Counted = Counted;

    fn zone(&self) -> &Zone<Counted> {
        &self.zone
    }
}

/// Settings of one block.
pub type LimitConnSettings = Limits<ConnLimit>;

const ALL: Contexts = Contexts::HTTP_ALL.or(Contexts::STREAM_ALL);

static ROWS: [Row<LimitConnSettings>; 6] = [
    row(
        "limit_conn_zone",
        Contexts::HTTP.or(Contexts::STREAM),
        Arity::TWO,
        "",
        "Defines a zone for numbers of connections.",
        zone,
    )
    .many(),
    row("limit_conn", ALL, Arity::TWO, "", "Limits the number of connections.", limit_conn).many(),
    value(
        "limit_conn_log_level",
        ALL,
        Arity::ONE,
        "error",
        "Level at which refusals are logged.",
        Limits::set_log_level,
    ),
    value(
        "limit_conn_status",
        Contexts::HTTP_ALL,
        Arity::ONE,
        "503",
        "Status of refused requests.",
        Limits::set_status,
    ),
    flag("limit_conn_dry_run", ALL, "off", "Counts and logs without limiting.", |s, v| s.dry_run = v),
    refused("limit_zone", Contexts::HTTP, Arity::ANY, "nginx replaced it by \"limit_conn_zone\""),
];

static VARIABLES: [Variable; 1] = [Variable::new("limit_conn_status", |r, out| {
    out.extend_from_slice(r.limit_conn_status().unwrap_or_default().as_bytes());
    r.limit_conn_status().is_some()
})];

impl Module for LimitConn {
    const NAME: &'static str = "ngx_http_limit_conn_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_limit_conn_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = LimitConnSettings;
    type Main = ();

    fn rows() -> &'static [Row<LimitConnSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::PreAccess, &LimitConn);
        registry.variables(&VARIABLES);
        registry.stream_phase(Phase::PreAccess, &LimitConn);
        registry.stream_variables(&VARIABLES);
    }
}

fn zone(_: &mut LimitConnSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (key_word, word) = (d.arg(0)?, d.arg(1)?);
    let key = ZoneKey::compile(cx, key_word, KEY_MAX)?;
    let Some(text) = word.after("zone=") else {
        return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str())));
    };
    let (name, size) = name_and_size(word, text)?;
    if name.is_empty() {
        return Err(limits::zoneless(d));
    }
    let data = Counted { key, size, table: OnceLock::new() };
    limits::declare(cx, d, name, size, data)
}

fn limit_conn(s: &mut LimitConnSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (name, number) = (d.arg(0)?, d.arg(1)?);
    let zone = cx.zones.refer(name, &name.as_str())?;
    s.begin(d, &zone)?;
    let most = number
        .number()
        .filter(|count| *count > 0)
        .ok_or_else(|| Error::at(number, format!("invalid number of connections \"{}\"", number.as_str())))?;
    if most > 65535 {
        return Err(Error::at(number, "connection limit must be less 65536"));
    }
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    s.push(ConnLimit { zone, most });
    Ok(())
}

/// What counts a request until it ends.
struct Tally(#[expect(dead_code, reason = "its end is what matters")] Vec<Held>);

impl PhaseHandler for LimitConn {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().lines().is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        if r.limit_conn_status().is_some() {
            return Verdict::Declined;
        }
        let cycle = Rc::clone(&r.cycle);
        let settings = cycle.http.location(r.location).settings::<Self>();
        match count(settings, r) {
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

/// Counts the request at each limit.
fn count(settings: &LimitConnSettings, r: &Request) -> Result<Vec<Held>, Refused> {
    let mut held = Vec::with_capacity(settings.lines().len());
    for limit in settings.lines() {
        let Some(counted) = limit.zone.data() else { continue };
        let entered = counted.key.with_value(r, |key| counted.table().enter(key, limit.most));
        let name = limit.zone.name();
        match entered {
            None => {}
            Some(Entered::Held(one)) => held.push(one),
            Some(Entered::Exceeded) => {
                let dry_run = if settings.dry_run { ", dry run," } else { "" };
                r.log(settings.log_level, format_args!("limiting connections{dry_run} by zone \"{name}\""));
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
