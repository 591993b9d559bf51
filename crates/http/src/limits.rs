//! What `limit_req` and `limit_conn` share: zones that count by a key, and lines that a block replaces as a whole.
//!
//! What is counted, and how, is theirs.

use conf::zones::{Zone, ZoneData};
use conf::{Directive, Error, Word};
use os::errlog::Level;

use crate::conf::Lines;
use crate::conf::compile::Cx;
use crate::module::Settings;
use crate::request::Request;
use crate::variables::Template;

const LEVELS: [(&str, Level); 4] =
    [("info", Level::Info), ("notice", Level::Notice), ("warn", Level::Warn), ("error", Level::Error)];

/// What a zone counts by.
#[derive(Debug)]
pub struct ZoneKey {
    template: Template,
    text: Box<str>,
    /// A value's most bytes.
    most: usize,
}

impl ZoneKey {
    /// The key that `word` writes, with values of at most so many bytes.
    ///
    /// # Errors
    /// What is wrong with its variables.
    pub fn compile(cx: &mut Cx<'_>, word: &Word, most: usize) -> Result<Self, Error> {
        Ok(Self { template: Template::compile(cx, word)?, text: word.as_str().into(), most })
    }

    /// Whether the zone `name` may go on with what was counted by `earlier`.
    ///
    /// # Errors
    /// nginx's sentence, which begins with `what`.
    pub fn succeeds(&self, what: &str, name: &str, earlier: &Self) -> Result<(), String> {
        if self.text == earlier.text {
            return Ok(());
        }
        let (ours, theirs) = (&self.text, &earlier.text);
        Err(format!(
            "{what} \"{name}\" uses the \"{ours}\" key while previously it used the \"{theirs}\" key"
        ))
    }

    /// Hands the request's value to `count`; none where it is empty, or too long, which is logged.
    pub fn with_value<T>(&self, r: &Request, count: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.template.with_value(r, |value| {
            if value.len() > self.most {
                let (key, most, shown) = (&self.text, self.most, String::from_utf8_lossy(value));
                let said =
                    format_args!("the value of the \"{key}\" key is more than {most} bytes: \"{shown}\"");
                r.log(Level::Error, said);
                return None;
            }
            (!value.is_empty()).then(|| count(value))
        })
    }
}

/// What lies in a zone that counts.
pub trait Counted: ZoneData {
    /// What it counts by.
    fn key(&self) -> &ZoneKey;
}

/// Declares the zone `name` of a directive such as `limit_req_zone`.
///
/// # Errors
/// It lacks a name, or is declared already.
pub fn declare<C: Counted>(
    cx: &mut Cx<'_>,
    d: &Directive,
    name: &str,
    size: u64,
    counted: C,
) -> Result<(), Error> {
    cx.zones.declare(&d.name, name, size)?.bind(counted).map_err(|known: &C| {
        let (directive, key) = (d.name.as_str(), &known.key().text);
        Error::at(&d.name, format!("{directive} \"{name}\" is already bound to key \"{key}\""))
    })
}

/// `"limit_req_zone" must have "zone" parameter`.
#[must_use]
pub fn zoneless(d: &Directive) -> Error {
    Error::at(&d.name, format!("\"{}\" must have \"zone\" parameter", d.name.as_str()))
}

/// One line, such as `limit_req zone=one`.
pub trait Line: Clone + Send + Sync + 'static {
    /// What lies in its zone.
    type Counted: Counted;

    /// Its zone.
    fn zone(&self) -> &Zone<Self::Counted>;
}

/// The lines of one block, and what happens to requests that they refuse.
#[derive(Clone, Debug)]
pub struct Limits<L> {
    lines: Lines<L>,
    /// At which level refusals are logged.
    pub log_level: Level,
    /// Their status.
    pub status: u16,
    /// Nothing is refused, only counted and logged.
    pub dry_run: bool,
}

impl<L> Default for Limits<L> {
    fn default() -> Self {
        Self { lines: Lines::default(), log_level: Level::Error, status: 503, dry_run: false }
    }
}

impl<L: Line> Settings for Limits<L> {
    fn enter(&mut self) {
        self.lines.enter();
    }
}

impl<L: Line> Limits<L> {
    /// The lines in their order.
    #[must_use]
    pub fn lines(&self) -> &[L] {
        &self.lines
    }

    /// Begins a line for `zone`.
    ///
    /// # Errors
    /// `is duplicate`.
    pub fn begin(&mut self, d: &Directive, zone: &Zone<L::Counted>) -> Result<(), Error> {
        if self.lines.own().iter().any(|line| line.zone() == zone) {
            return Err(Error::on(d, "is duplicate"));
        }
        Ok(())
    }

    /// Adds the line that was [begun](Self::begin).
    pub fn push(&mut self, line: L) {
        self.lines.push(line);
    }

    /// `limit_req_log_level` and its like.
    ///
    /// # Errors
    /// Another word.
    pub fn set_log_level(&mut self, d: &Directive) -> Result<(), Error> {
        self.log_level = d.one_of(&LEVELS)?;
        Ok(())
    }

    /// `limit_req_status` and its like.
    ///
    /// # Errors
    /// Less than 400 or more than 599.
    pub fn set_status(&mut self, d: &Directive) -> Result<(), Error> {
        self.status = u16::try_from(d.number_between(400, 599)?).unwrap_or(503);
        Ok(())
    }
}
