//! `ngx_http_limit_req_module`: how many requests per second a key may make; those beyond are delayed, then
//! refused.
//!
//! With several limits each is asked in turn, and only a request that all let pass is counted anywhere.

use http::conf::Location;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use base::limit::{Accounting, Asked, Limit, Pin, RequestTable};
use conf::zones::{Zone, ZoneData, name_and_size};
use conf::{Arity, Contexts, Directive, Error, parse_number};
use http::conf::compile::Cx;
use http::delay::{Held, hold_back};
use http::logging::LIMIT_LEVELS;
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, flag, row, value};
use http::variables::{Template, Variable};
use os::errlog::Level;

/// `ngx_http_limit_req_module`.
pub struct LimitReq;

static SLOT: Slot = Slot::new();

/// A key's longest value, bytes.
const KEY_MAX: usize = 65535;
/// `nodelay`: no excess is as large.
const NO_DELAY: u64 = u64::MAX;

/// A zone of `limit_req_zone`.
struct Rate {
    key: Template,
    key_text: Box<str>,
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
        if self.key_text != earlier.key_text {
            return Err(format!(
                "limit_req \"{name}\" uses the \"{}\" key while previously it used the \"{}\" key",
                self.key_text, earlier.key_text
            ));
        }
        let _ = self.table.set(Arc::clone(earlier.table()));
        Ok(())
    }
}

/// One `limit_req` line; thousandths of a request.
#[derive(Clone)]
struct ReqLimit {
    zone: Zone<Rate>,
    burst: u64,
    /// Excess up to which requests are not delayed.
    delay: u64,
}

/// Settings of one block.
#[derive(Clone)]
pub struct LimitReqSettings {
    limits: Arc<Vec<ReqLimit>>,
    is_inherited: bool,
    log_level: Level,
    status: u16,
    dry_run: bool,
}

impl Default for LimitReqSettings {
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

impl Settings for LimitReqSettings {
    fn enter(&mut self) {
        self.is_inherited = true;
    }
}

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<LimitReqSettings>; 5] = [
    row("limit_req_zone", Contexts::HTTP, Arity::THREE, "", "Defines a zone for rates of requests.", zone)
        .many(),
    row("limit_req", ALL, Arity::TAKE123, "", "Limits the rate of requests.", limit_req).many(),
    value("limit_req_log_level", ALL, Arity::ONE, "error", "Level at which refusals are logged.", |s, d| {
        d.one_of(&LIMIT_LEVELS).map(|level| s.log_level = level)
    }),
    value("limit_req_status", ALL, Arity::ONE, "503", "Status of refused requests.", |s, d| {
        d.number_between(400, 599).map(|status| s.status = u16::try_from(status).unwrap_or(503))
    }),
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
    let key_word = d.arg(0)?;
    let key = Template::compile(cx, key_word)?;
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
        return Err(Error::at(&d.name, format!("\"{}\" must have \"zone\" parameter", d.name.as_str())));
    };
    let key_text = key_word.as_str().into();
    let data = Rate { key, key_text, rate, size, table: OnceLock::new() };
    cx.zones.declare(&d.name, name, size)?.bind(data).map_err(|known| {
        let (directive, key) = (d.name.as_str(), &known.key_text);
        Error::at(&d.name, format!("{directive} \"{name}\" is already bound to key \"{key}\""))
    })
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
        return Err(Error::at(&d.name, format!("\"{}\" must have \"zone\" parameter", d.name.as_str())));
    };
    if std::mem::take(&mut s.is_inherited) {
        s.limits = Arc::default();
    }
    if s.limits.iter().any(|limit| limit.zone == zone) {
        return Err(Error::on(d, "is duplicate"));
    }
    Arc::make_mut(&mut s.limits).push(ReqLimit { zone, burst, delay });
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
        !location.settings::<Self>().limits.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        if r.limit_req_status().is_some() {
            return Verdict::Declined;
        }
        let cycle = Rc::clone(&r.cycle);
        let settings = cycle.http.location(r.location).settings::<Self>();
        match decide(r, &settings.limits) {
            Decision::Unlimited => Verdict::Declined,
            Decision::Passed => {
                r.set_limit_req_status("PASSED");
                Verdict::Declined
            }
            Decision::Refused(by) => {
                if let Some((excess, by)) = by {
                    settings.log(r, settings.log_level, "limiting request", "s", excess, by);
                }
                if settings.dry_run {
                    r.set_limit_req_status("REJECTED_DRY_RUN");
                    return Verdict::Declined;
                }
                r.set_limit_req_status("REJECTED");
                Verdict::Finish(Outcome::Status(settings.status))
            }
            Decision::Delayed { delay_ms, excess, by } => {
                settings.log(r, settings.delay_level(), "delaying request", "", excess, by);
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

impl LimitReqSettings {
    /// Delays are logged one level below refusals.
    fn delay_level(&self) -> Level {
        match self.log_level {
            Level::Error => Level::Warn,
            Level::Warn => Level::Notice,
            _ => Level::Info,
        }
    }

    fn log(&self, r: &Request, level: Level, what: &str, plural: &str, excess: u64, by: &ReqLimit) {
        let dry_run = if self.dry_run { ", dry run" } else { "" };
        // nginx sets a comma here for the one and none for the other.
        let comma = if plural.is_empty() { "," } else { "" };
        let (whole, thousandths, zone) = (excess / 1000, excess % 1000, by.zone.name());
        r.log(
            level,
            format_args!(
                "{what}{plural}{dry_run}, excess: {whole}.{thousandths:03}{comma} by zone \"{zone}\""
            ),
        );
    }
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
        let asked = rate.key.with_value(r, |key| {
            if key.len() > KEY_MAX {
                let (name, shown) = (&rate.key_text, String::from_utf8_lossy(key));
                r.log(
                    Level::Error,
                    format_args!("the value of the \"{name}\" key is more than {KEY_MAX} bytes: \"{shown}\""),
                );
                return None;
            }
            (!key.is_empty()).then(|| rate.table().ask(key, allowed, now_ms, accounting))
        });
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
