//! `*_cache*` and `*_store*`: what of an upstream's answers is kept, and when it is used again.

use std::sync::Arc;

use ::cache::Mode;
use conf::zones::Zone;
use conf::{Directive, Error, Level};
use proto::h1::Method;

use super::path::CacheZone;
use super::purge::PurgeWhen;
use super::{hints, purge};
use crate::conf::Lines;
use crate::conf::compile::Cx;
use crate::relay::settings::next;
use crate::request::Request;
use crate::variables::Template;

/// Conditions of `*_cache_use_stale` besides those of `*_next_upstream`.
pub mod stale {
    use super::next;

    /// The entry is being updated.
    pub const UPDATING: u32 = 1 << 16;

    /// Names in the configuration.
    pub const NAMES: [(&str, u32); 12] = [
        ("error", next::ERROR),
        ("timeout", next::TIMEOUT),
        ("invalid_header", next::INVALID_HEADER),
        ("updating", UPDATING),
        ("http_500", next::HTTP_500),
        ("http_502", next::HTTP_502),
        ("http_503", next::HTTP_503),
        ("http_504", next::HTTP_504),
        ("http_403", next::HTTP_403),
        ("http_404", next::HTTP_404),
        ("http_429", next::HTTP_429),
        ("off", next::OFF),
    ];
}

/// Methods of `*_cache_methods`.
const METHODS: [(&str, u32); 3] = [("GET", 1), ("HEAD", 2), ("POST", 4)];

/// Which zone answers are kept in.
#[derive(Clone, Default)]
pub enum ZoneRef {
    /// None.
    #[default]
    Off,
    /// One that is known at load.
    Fixed(Zone<CacheZone>),
    /// One that variables name.
    Named(Template),
}

/// Where answers are saved as files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// Nowhere.
    #[default]
    Off,
    /// Where the URI leads to below `root` or `alias`.
    On,
    /// There.
    Path(Template),
}

/// How long answers of a status are fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Valid {
    /// `None`: any.
    status: Option<u16>,
    seconds: u64,
}

/// The settings of a block; field names are the directives' without their prefix.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own that is on or off")]
pub struct CacheSettings {
    pub zone: ZoneRef,
    pub key: Option<Template>,
    valid: Lines<Valid>,
    pub min_uses: u64,
    methods: u32,
    pub bypass: Lines<Template>,
    pub no_cache: Lines<Template>,
    pub purge: PurgeWhen,
    pub purge_mode: Mode,
    pub tags: Lines<Template>,
    pub use_stale: u32,
    pub lock: bool,
    pub lock_timeout: u64,
    pub lock_age: u64,
    pub revalidate: bool,
    pub convert_head: bool,
    pub background_update: bool,
    pub max_range_offset: Option<u64>,
    pub store: Store,
    /// Permission bits of what is saved.
    pub store_access: u32,
    own: Own,
}

/// What the current block has said itself.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Own {
    zone: bool,
    store: bool,
}

impl CacheSettings {
    /// Whether answers may be kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !matches!(self.zone, ZoneRef::Off)
    }

    /// Whether [`Self::enter`] has anything to do.
    #[must_use]
    pub fn has_own(&self) -> bool {
        let has_lines =
            self.valid.is_own() || self.bypass.is_own() || self.no_cache.is_own() || self.tags.is_own();
        has_lines || self.own != Own::default()
    }

    /// For [`crate::module::Settings::enter`].
    pub fn enter(&mut self) {
        self.valid.enter();
        self.bypass.enter();
        self.no_cache.enter();
        self.tags.enter();
        self.own = Own::default();
    }

    /// Whether requests of this method are answered from the cache.
    #[must_use]
    pub fn takes(&self, method: Method) -> bool {
        let bit = match method {
            Method::Get | Method::Head => return true,
            Method::Post => METHODS[2].1,
            _ => 0,
        };
        self.methods & bit != 0
    }

    /// Until when an answer of this status is fresh if it does not say so itself, in the seconds of `now`; `None` for
    /// one that is not kept then (`ngx_http_file_cache_valid`).
    #[must_use]
    pub fn valid_until(&self, status: u16, now: i64) -> Option<i64> {
        let fits = |valid: &&Valid| valid.status.is_none_or(|known| known == status);
        let seconds = self.valid.iter().find(fits)?.seconds;
        (seconds > 0).then(|| now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)))
    }

    /// Whether a stale entry may be served after this failure.
    #[must_use]
    pub fn serves_stale(&self, kind: u32) -> bool {
        self.use_stale & kind != 0
    }

    /// Whether any of the conditions holds.
    #[must_use]
    pub fn any_holds(conditions: &[Template], r: &Request) -> bool {
        conditions.iter().any(|condition| condition.holds(r))
    }

    /// `*_cache`.
    ///
    /// # Errors
    /// `"*_cache" zone "…" is unknown`, once all lines were read.
    pub fn set_zone(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        if self.own.store && self.store != Store::Off {
            return Err(incompatible(d, "_cache", "_store"));
        }
        self.own.zone = true;
        let word = d.arg(0)?;
        self.zone = if word.is("off") {
            ZoneRef::Off
        } else if Template::has_variables(&word.bytes) {
            ZoneRef::Named(Template::compile(cx, word)?)
        } else {
            let name = word.as_str();
            let unknown = cx.error_at_end(format!("\"{}\" zone \"{name}\" is unknown", d.name.as_str()));
            ZoneRef::Fixed(cx.zones.refer_or(word, &name, unknown)?)
        };
        if self.is_on() {
            self.store = Store::Off;
        }
        Ok(())
    }

    /// `*_store`.
    ///
    /// # Errors
    /// Together with `*_cache`.
    pub fn set_store(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        let word = d.arg(0)?;
        self.own.store = true;
        if word.is("off") {
            self.store = Store::Off;
            return Ok(());
        }
        if self.own.zone && self.is_on() {
            return Err(incompatible(d, "_store", "_cache"));
        }
        self.store = if word.is("on") { Store::On } else { Store::Path(Template::compile(cx, word)?) };
        self.zone = ZoneRef::Off;
        Ok(())
    }

    /// `*_store_access`.
    ///
    /// # Errors
    /// `invalid value "…"`.
    pub fn set_store_access(&mut self, d: &Directive) -> Result<(), Error> {
        self.store_access = crate::rows::access(d)?;
        Ok(())
    }

    /// `*_cache_valid`.
    ///
    /// # Errors
    /// `invalid time value "…"`, `invalid status "…"`.
    pub fn add_valid(&mut self, d: &Directive) -> Result<(), Error> {
        let Some((last, statuses)) = d.args.split_last() else { return Ok(()) };
        let seconds = last
            .time_sec()
            .ok_or_else(|| Error::at(last, format!("invalid time value \"{}\"", last.as_str())))?;
        if statuses.is_empty() {
            let usual = [200, 301, 302].map(|status| Valid { status: Some(status), seconds });
            self.valid.own().extend(usual);
        }
        for word in statuses {
            let status = match word.number() {
                _ if word.is("any") => None,
                Some(status @ 100..=599) => u16::try_from(status).ok(),
                _ => return Err(Error::at(word, format!("invalid status \"{}\"", word.as_str()))),
            };
            self.valid.push(Valid { status, seconds });
        }
        Ok(())
    }

    /// `*_cache_methods`.
    ///
    /// # Errors
    /// `invalid value "…"`.
    pub fn set_methods(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        self.methods = cx.bits(d, &METHODS)?;
        Ok(())
    }

    /// `*_cache_use_stale`.
    ///
    /// # Errors
    /// `invalid value "…"`.
    pub fn set_use_stale(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        let bits = cx.bits(d, &stale::NAMES)?;
        self.use_stale = if bits & next::OFF != 0 { 0 } else { bits };
        Ok(())
    }

    /// `*_cache_bypass`.
    ///
    /// # Errors
    /// Those of [`Template::compile`].
    pub fn add_bypass(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        self.bypass.push_words(cx, d)
    }

    /// `*_no_cache`.
    ///
    /// # Errors
    /// Those of [`Template::compile`].
    pub fn add_no_cache(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        self.no_cache.push_words(cx, d)
    }

    /// `*_cache_key`.
    ///
    /// # Errors
    /// Those of [`Template::compile`].
    pub fn set_key(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        let word = d.arg(0)?;
        self.key = Some(Template::compile(cx, word)?);
        hints::key(cx, &d.name.as_str(), word);
        Ok(())
    }

    /// `*_cache_purge`.
    ///
    /// # Errors
    /// nginx's sentences for what it does not take.
    pub fn set_purge(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        purge::set(self, cx, d)
    }

    /// `*_cache_purge_mode`.
    ///
    /// # Errors
    /// `invalid value "…"`.
    pub fn set_purge_mode(&mut self, d: &Directive) -> Result<(), Error> {
        let word = d.arg(0)?;
        self.purge_mode = match &*word.bytes {
            b"hard" => Mode::Hard,
            b"soft" => Mode::Soft,
            _ => return Err(Error::at(word, format!("invalid value \"{}\"", word.as_str()))),
        };
        Ok(())
    }

    /// `*_cache_tag`.
    ///
    /// # Errors
    /// Those of [`Template::compile`].
    pub fn add_tags(&mut self, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
        self.tags.push_words(cx, d)
    }

    /// nginx's warning where a protocol without a key of its own has none set; here such keys have scheme, host and
    /// URI.
    pub(in crate::relay) fn finish(&self, cx: &mut Cx<'_>, prefix: &str) {
        if self.own.zone
            && self.is_on()
            && self.key.is_none()
            && matches!(prefix, "fastcgi" | "scgi" | "uwsgi")
        {
            let sentence = format!("no \"{prefix}_cache_key\" for \"{prefix}_cache\"");
            let notice = cx.error_at_end(sentence).with_level(Level::Notice);
            cx.notices.push(notice);
        }
    }

    /// The zone of this request: `None` where variables say so.
    ///
    /// # Errors
    /// The name of a zone that there is not.
    pub(super) fn zone_of(&self, r: &Request) -> Result<Option<Arc<::cache::Zone>>, String> {
        match &self.zone {
            ZoneRef::Off => Ok(None),
            ZoneRef::Fixed(zone) => Ok(zone.data().map(CacheZone::zone)),
            ZoneRef::Named(template) => {
                let name = template.value(r);
                let name = String::from_utf8_lossy(&name);
                if name.is_empty() || name == "off" {
                    return Ok(None);
                }
                let zone = r.cycle.http.zones.find::<CacheZone>(&name).and_then(Zone::data);
                zone.map(|zone| Some(zone.zone())).ok_or_else(|| name.into_owned())
            }
        }
    }
}

/// A block cannot both cache and store.
fn incompatible(d: &Directive, own: &str, other: &str) -> Error {
    let name = d.name.as_str();
    let prefix = name.strip_suffix(own).unwrap_or(&name);
    Error::at(&d.name, format!("\"{name}\" is incompatible with \"{prefix}{other}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_decides() {
        let settings = CacheSettings {
            valid: Lines::from(vec![
                Valid { status: Some(200), seconds: 5 },
                Valid { status: Some(500), seconds: 0 },
                Valid { status: None, seconds: 7 },
                Valid { status: Some(404), seconds: 9 },
            ]),
            ..CacheSettings::default()
        };
        let check = |status, until| assert_eq!(settings.valid_until(status, 100), until, "{status}");
        check(200, Some(105));
        check(404, Some(107));
        check(500, None);
        assert_eq!(CacheSettings::default().valid_until(200, 100), None);
    }

    #[test]
    fn get_and_head_are_always_taken() {
        let check = |methods, method, expected| {
            let settings = CacheSettings { methods, ..CacheSettings::default() };
            assert_eq!(settings.takes(method), expected, "{method:?}");
        };
        check(0, Method::Get, true);
        check(1, Method::Head, true);
        check(1, Method::Post, false);
        check(4, Method::Post, true);
        check(7, Method::Put, false);
    }
}
