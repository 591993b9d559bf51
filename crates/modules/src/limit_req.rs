//! `ngx_http_limit_req_module`: how many requests per second a key may make; those beyond are delayed, then
//! refused.
//!
//! With several limits each is asked in turn, and only a request that all let pass is counted anywhere.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use base::limit::{Accounting, Asked, Limit, Pin, RequestTable};
use conf::zones::{Zone, ZoneData, name_and_size};
use conf::{Arity, Contexts, Directive, Error, parse_number};
use http::conf::Location;
use http::conf::compile::Cx;
use http::delay::{Held, hold_back};
use http::limits::{self, Limits, Line, ZoneKey};
use http::module::{Module, Registry, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, flag, row, value};
use http::variables::Variable;
use os::errlog::Level;

/// `ngx_http_limit_req_module`.
pub struct LimitReq;

static SLOT: Slot = Slot::new();

/// A key's longest value, bytes.
const KEY_MAX: usize = 65535;
const DELAYING: &str = "delaying request";
/// `nodelay`: no excess is as large.
const NO_DELAY: u64 = u64::MAX;

/// A zone of `limit_req_zone`.
pub struct Rate {
    key: ZoneKey,
    /// Requests per second, in thousandths.
    rate: u64,
    size: u64,
    table: OnceLock<Arc<RequestTable>>,
}

impl Rate {
    fn table(&self) -> &Arc<RequestTable> {
        self.table.get_or_init(|| Arc::new(RequestTable::new(self.size)))
    }
}

impl ZoneData for Rate {
    fn adopt(&self, name: &str, earlier: &Self) -> Result<(), String> {
        self.key.succeeds("limit_req", name, &earlier.key)?;
        let _ = self.table.set(Arc::clone(earlier.table()));
        Ok(())
    }
}

impl limits::Counted for Rate {
    fn key(&self) -> &ZoneKey {
        &self.key
    }
}

/// One `limit_req` line; thousandths of a request.
#[derive(Clone)]
pub struct ReqLimit {
    zone: Zone<Rate>,
    burst: u64,
    /// Excess up to which requests are not delayed.
    delay: u64,
}

impl Line for ReqLimit {
    type Counted = Rate;

    fn zone(&self) -> &Zone<Rate> {
        &self.zone
    }
}

/// Settings of one block.
pub type LimitReqSettings = Limits<ReqLimit>;

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<LimitReqSettings>; 5] = [
    row("limit_req_zone", Contexts::HTTP, Arity::THREE, "", "Defines a zone for rates of requests.", zone)
        .many(),
    row("limit_req", ALL, Arity::TAKE123, "", "Limits the rate of requests.", limit_req).many(),
    value(
        "limit_req_log_level",
        ALL,
        Arity::ONE,
        "error",
        "Level at which refusals are logged.",
        Limits::set_log_level,
    ),
    value("limit_req_status", ALL, Arity::ONE, "503", "Status of refused requests.", Limits::set_status),
    flag("limit_req_dry_run", ALL, "off", "Counts and logs without limiting.", |s, v| s.dry_run = v),
];

static VARIABLES: [Variable; 1] = [Variable::new("limit_req_status", |r, out| {
    out.extend_from_slice(r.limit_req_status().unwrap_or_default().as_bytes());
    r.limit_req_status().is_some()
})];

impl Module for LimitReq {
    const NAME: &'static str = "ngx_http_limit_req_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = LimitReqSettings;
    type Main = ();

    fn rows() -> &'static [Row<LimitReqSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::PreAccess, &LimitReq);
        registry.variables(&VARIABLES);
    }
}

fn zone(_: &mut LimitReqSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let key = ZoneKey::compile(cx, d.arg(0)?, KEY_MAX)?;
    let (mut zone, mut rate) = (None, 1000);
    for word in d.args.iter().skip(1) {
        if let Some(text) = word.after("zone=") {
            zone = Some(name_and_size(word, text)?).filter(|(name, _)| !name.is_empty());
        } else if let Some(text) = word.after("rate=") {
            rate = parse_rate(text)
                .ok_or_else(|| Error::at(word, format!("invalid rate \"{}\"", word.as_str())))?;
        } else {
            return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str())));
        }
    }
    let Some((name, size)) = zone else {
        return Err(limits::zoneless(d));
    };
    let data = Rate { key, rate, size, table: OnceLock::new() };
    limits::declare(cx, d, name, size, data)
}

/// Thousandths of a request per second of a rate such as `10r/s` or `30r/m`.
fn parse_rate(text: &[u8]) -> Option<u64> {
    let (digits, seconds) = match text.strip_suffix(b"r/m") {
        Some(digits) => (digits, 60),
        None => (text.strip_suffix(b"r/s").unwrap_or(text), 1),
    };
    let rate = parse_number(digits).filter(|rate| *rate > 0)?;
    Some(rate.checked_mul(1000)? / seconds)
}

fn limit_req(s: &mut LimitReqSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (mut zone, mut burst, mut delay) = (None, 0, 0);
    for word in &d.args {
        let count = |digits: &[u8], what: &str| {
            parse_number(digits)
                .filter(|count| *count > 0)
                .ok_or_else(|| Error::at(word, format!("invalid {what} value \"{}\"", word.as_str())))
        };
        if let Some(name) = word.after("zone=") {
            zone = Some(cx.zones.refer(word, &String::from_utf8_lossy(name))?);
        } else if let Some(digits) = word.after("burst=") {
            burst = count(digits, "burst")?.saturating_mul(1000);
        } else if let Some(digits) = word.after("delay=") {
            delay = count(digits, "delay")?.saturating_mul(1000);
        } else if word.is("nodelay") {
            delay = NO_DELAY;
        } else {
            return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str())));
        }
    }
    let Some(zone) = zone else {
        return Err(limits::zoneless(d));
    };
    s.begin(d, &zone)?;
    s.push(ReqLimit { zone, burst, delay });
    Ok(())
}

/// What the limits together say of a request.
enum Decision<'s> {
    /// No key had a value.
    Unlimited,
    Passed,
    Delayed {
        delay_ms: u64,
        excess: u64,
        by: &'s ReqLimit,
    },
    Refused(Option<(u64, &'s ReqLimit)>),
}

impl PhaseHandler for LimitReq {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().lines().is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        if r.limit_req_status().is_some() {
            return Verdict::Declined;
        }
        let cycle = Rc::clone(&r.cycle);
        let settings = cycle.http.location(r.location).settings::<Self>();
        match decide(r, settings.lines()) {
            Decision::Unlimited => Verdict::Declined,
            Decision::Passed => {
                r.set_limit_req_status("PASSED");
                Verdict::Declined
            }
            Decision::Refused(by) => {
                if let Some((excess, by)) = by {
                    log(r, settings.log_level, "limiting requests", settings, excess, by);
                }
                if settings.dry_run {
                    r.set_limit_req_status("REJECTED_DRY_RUN");
                    return Verdict::Declined;
                }
                r.set_limit_req_status("REJECTED");
                Verdict::Finish(Outcome::Status(settings.status))
            }
            Decision::Delayed { delay_ms, excess, by } => {
                log(r, delay_level(settings), DELAYING, settings, excess, by);
                if settings.dry_run {
                    r.set_limit_req_status("DELAYED_DRY_RUN");
                    return Verdict::Declined;
                }
                r.set_limit_req_status("DELAYED");
                Verdict::Wait(Box::pin(async move {
                    match hold_back(r, delay_ms).await {
                        Held::Over => Verdict::Declined,
                        Held::Gone => Verdict::Finish(Outcome::Status(499)),
                    }
                }))
            }
        }
    }
}

/// Delays are logged one level below refusals.
fn delay_level(settings: &LimitReqSettings) -> Level {
    match settings.log_level {
        Level::Error => Level::Warn,
        Level::Warn => Level::Notice,
        _ => Level::Info,
    }
}

fn log(r: &Request, level: Level, what: &str, settings: &LimitReqSettings, excess: u64, by: &ReqLimit) {
    let dry_run = if settings.dry_run { ", dry run" } else { "" };
    // nginx sets a comma here for delays and none for refusals.
    let comma = if what == DELAYING { "," } else { "" };
    let (whole, thousandths, zone) = (excess / 1000, excess % 1000, by.zone.name());
    r.log(level, format_args!("{what}{dry_run}, excess: {whole}.{thousandths:03}{comma} by zone \"{zone}\""));
}

/// Asks all limits (`ngx_http_limit_req_handler`).
fn decide<'s>(r: &Request, limits: &'s [ReqLimit]) -> Decision<'s> {
    let now_ms = net::timer::now_ms();
    let mut pins: Vec<(&ReqLimit, &Rate, Pin)> = Vec::new();
    let mut passed: Option<(u64, &ReqLimit, &Rate)> = None;
    for (index, limit) in limits.iter().enumerate() {
        let Some(rate) = limit.zone.data() else { continue };
        let accounting = if index + 1 == limits.len() { Accounting::Now } else { Accounting::Later };
        let allowed = Limit { rate: rate.rate, burst: limit.burst };
        let asked = rate.key.with_value(r, |key| rate.table().ask(key, allowed, now_ms, accounting));
        let refused = match asked {
            None => continue,
            Some(Asked::Passed(excess)) => {
                passed = Some((excess, limit, rate));
                continue;
            }
            Some(Asked::Pinned(pin)) => {
                pins.push((limit, rate, pin));
                continue;
            }
            Some(Asked::Exceeded(excess)) => Some((excess, limit)),
            Some(Asked::Full) => {
                let name = limit.zone.name();
                r.log(Level::Alert, format_args!("could not allocate node in limit_req zone \"{name}\""));
                None
            }
        };
        pins.into_iter().for_each(|(_, rate, pin)| rate.table().release(pin));
        return Decision::Refused(refused);
    }
    if passed.is_none() && pins.is_empty() {
        return Decision::Unlimited;
    }
    longest_delay(passed, pins, now_ms)
}

/// Counts the request wherever that has not happened yet, and finds the limit that delays it most
/// (`ngx_http_limit_req_account`).
fn longest_delay<'s>(
    passed: Option<(u64, &'s ReqLimit, &Rate)>,
    pins: Vec<(&'s ReqLimit, &Rate, Pin)>,
    now_ms: u64,
) -> Decision<'s> {
    let mut longest = Decision::Passed;
    let mut longest_ms = 0;
    let mut consider = |excess: u64, limit: &'s ReqLimit, rate: &Rate| {
        let delay_ms = excess.saturating_sub(limit.delay).saturating_mul(1000) / rate.rate.max(1);
        if delay_ms > longest_ms {
            longest_ms = delay_ms;
            longest = Decision::Delayed { delay_ms, excess, by: limit };
        }
    };
    if let Some((excess, limit, rate)) = passed {
        consider(excess, limit, rate);
    }
    for (limit, rate, pin) in pins.into_iter().rev() {
        let allowed = Limit { rate: rate.rate, burst: limit.burst };
        let excess = rate.table().account(pin, allowed, now_ms);
        consider(excess, limit, rate);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse_rate(text.as_bytes()), expected, "{text}");
        };
        check("1r/s", Some(1000));
        check("10r/s", Some(10_000));
        check("10", Some(10_000));
        check("30r/m", Some(500));
        check("1r/m", Some(16));
        check("0r/s", None);
        check("r/s", None);
        check("-1r/s", None);
        check("1r/h", None);
        check("9223372036854775807r/s", None);
    }
}
