//! Shared zones: state that directives name, that all threads share and that outlives a reload.
//!
//! A zone may be used above the line that declares it, so its name alone makes a handle, which is filled later.
//! What a zone holds is its user's own type, which also tells one use from another.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, OnceLock};

use base::parse_size;

use crate::{Error, Order, Word};

/// The least size of a zone: eight pages, as in nginx.
const SIZE_MIN: u64 = 8 * 4096;

/// What lies in a zone: the settings of its declaration, and state that is carried over from configuration to
/// configuration.
pub trait ZoneData: Send + Sync + 'static {
    /// Takes over the state of the zone of this name, use and size in the configuration before; there may be none.
    ///
    /// # Errors
    /// The sentence that says why both cannot share their state, such as another key.
    fn adopt(&self, name: &str, earlier: &Self) -> Result<(), String> {
        let _ = (name, earlier);
        Ok(())
    }
}

struct Shared<T> {
    name: Box<str>,
    data: OnceLock<T>,
}

/// A handle on a zone; all handles of one name lead to the same data.
pub struct Zone<T>(Arc<Shared<T>>);

impl<T> Clone for Zone<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Zone<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.0.name)
    }
}

impl<T> PartialEq for Zone<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Zone<T> {
    /// The zone's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What lies in the zone; always there once the configuration was read to its end.
    #[inline]
    #[must_use]
    pub fn data(&self) -> Option<&T> {
        self.0.data.get()
    }

    /// Puts `data` into the zone.
    ///
    /// # Errors
    /// What lies there already.
    pub fn bind(&self, data: T) -> Result<(), &T> {
        match self.0.data.set(data) {
            Ok(()) => Ok(()),
            Err(_) => self.0.data.get().map_or(Ok(()), Err),
        }
    }
}

struct Declared {
    name: Box<str>,
    /// Where it was first named, and when that was read.
    first: (Word, Order),
    /// What is said where nothing declares it.
    unknown: Option<Error>,
    size: u64,
    usage: TypeId,
    /// An `Arc<Shared<T>>`.
    shared: Box<dyn Any + Send + Sync>,
    adopt: fn(&Self, &Self) -> Result<(), String>,
}

/// All zones of a block such as `http`.
pub struct Zones {
    declared: Vec<Declared>,
    /// When the line was read that names zones now.
    now: Order,
}

impl Default for Zones {
    fn default() -> Self {
        Self { declared: Vec::new(), now: Order::DEFAULT }
    }
}

/// Why a zone that is used cannot be had.
#[derive(Debug)]
pub enum Unready {
    /// What its user had to say.
    Unknown(Error),
    /// Nobody says how large it is.
    Sizeless(Error),
}

impl Zones {
    /// From now on a line that was read at `order` names zones.
    pub fn line(&mut self, order: Order) {
        self.now = order;
    }

    /// The zone that `word` declares with a size in bytes (`ngx_shared_memory_add`).
    ///
    /// # Errors
    /// The zone is declared for another use, or with another size.
    pub fn declare<T: ZoneData>(&mut self, word: &Word, name: &str, size: u64) -> Result<Zone<T>, Error> {
        let Some(known) = self.declared.iter_mut().find(|zone| *zone.name == *name) else {
            let zone = Zone(Arc::new(Shared { name: name.into(), data: OnceLock::new() }));
            self.declared.push(Declared {
                name: name.into(),
                first: (word.clone(), self.now),
                unknown: None,
                size,
                usage: TypeId::of::<T>(),
                shared: Box::new(zone.clone()),
                adopt: adopt::<T>,
            });
            return Ok(zone);
        };
        let Some(zone) = known.shared.downcast_ref::<Zone<T>>().cloned() else {
            return Err(of_different_use(word, name));
        };
        if known.size == 0 {
            known.size = size;
        }
        if size != 0 && size != known.size {
            return Err(Error::at(
                word,
                format!(
                    "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {}",
                    known.size
                ),
            ));
        }
        Ok(zone)
    }

    /// The zone that `word` uses; its declaration may still follow.
    ///
    /// # Errors
    /// The zone is declared for another use.
    pub fn refer<T: ZoneData>(&mut self, word: &Word, name: &str) -> Result<Zone<T>, Error> {
        self.declare(word, name, 0)
    }

    /// As [`Self::refer`], with what is to be said where nothing declares the zone.
    ///
    /// # Errors
    /// As [`Self::refer`].
    pub fn refer_or<T: ZoneData>(
        &mut self,
        word: &Word,
        name: &str,
        unknown: Error,
    ) -> Result<Zone<T>, Error> {
        let zone = self.refer(word, name)?;
        if let Some(known) = self.declared.iter_mut().find(|zone| *zone.name == *name) {
            known.unknown.get_or_insert(unknown);
        }
        Ok(zone)
    }

    /// The zone of this name and use, once all are known.
    #[must_use]
    pub fn find<T: ZoneData>(&self, name: &str) -> Option<&Zone<T>> {
        self.declared.iter().find(|zone| *zone.name == *name)?.shared.downcast_ref()
    }

    /// All zones of a use.
    pub fn all<T: ZoneData>(&self) -> impl Iterator<Item = &Zone<T>> {
        self.declared.iter().filter_map(|zone| zone.shared.downcast_ref())
    }

    /// Every zone that is used must have been declared.
    ///
    /// # Errors
    /// `zero size shared memory zone "…"`, or what its user had to say.
    pub fn check(&self) -> Result<(), Unready> {
        if let Some(unknown) =
            self.declared.iter().find_map(|zone| zone.unknown.clone().filter(|_| zone.size == 0))
        {
            return Err(Unready::Unknown(unknown));
        }
        self.check_sizes().map_err(Unready::Sizeless)
    }

    /// The same, whatever users have to say.
    ///
    /// # Errors
    /// `zero size shared memory zone "…"`.
    pub fn check_sizes(&self) -> Result<(), Error> {
        match self.declared.iter().find(|zone| zone.size == 0) {
            Some(zone) => {
                let sentence = format!("zero size shared memory zone \"{}\"", zone.name);
                Err(Error::bare(sentence).found(Order::END_OF_TEXT))
            }
            None => Ok(()),
        }
    }

    /// What `http` and `stream` name alike is never the same zone.
    ///
    /// # Errors
    /// `the shared memory zone "…" is already declared for a different use`, about the line that nginx comes to first.
    pub fn check_apart(&self, other: &Self) -> Result<(), Error> {
        let later = |zone: &Declared| {
            let same = other.declared.iter().find(|other| other.name == zone.name)?;
            Some(if zone.first.1 < same.first.1 { same.first.clone() } else { zone.first.clone() })
        };
        let found = self.declared.iter().filter_map(|zone| Some((&zone.name, later(zone)?)));
        match found.min_by_key(|(_, (_, order))| *order) {
            Some((name, (word, order))) => Err(of_different_use(&word, name).found(order)),
            None => Ok(()),
        }
    }

    /// Takes over the state of zones that have the same name, use and size as before.
    ///
    /// # Errors
    /// What [`ZoneData::adopt`] says.
    pub fn inherit(&self, earlier: &Self) -> Result<(), Error> {
        for zone in &self.declared {
            let same = |other: &&Declared| {
                other.name == zone.name && other.usage == zone.usage && other.size == zone.size
            };
            if let Some(other) = earlier.declared.iter().find(same) {
                (zone.adopt)(zone, other).map_err(Error::bare)?;
            }
        }
        Ok(())
    }
}

fn of_different_use(word: &Word, name: &str) -> Error {
    Error::at(word, format!("the shared memory zone \"{name}\" is already declared for a different use"))
}

fn adopt<T: ZoneData>(zone: &Declared, earlier: &Declared) -> Result<(), String> {
    let data = |zone: &'_ Declared| zone.shared.downcast_ref::<Zone<T>>().cloned();
    let (Some(own), Some(other)) = (data(zone), data(earlier)) else { return Ok(()) };
    match (own.data(), other.data()) {
        (Some(own), Some(other)) => own.adopt(&zone.name, other),
        _ => Ok(()),
    }
}

/// Name and size of a declaration such as `zone=one:10m`; `text` is what follows the sign of equality.
///
/// # Errors
/// `invalid zone size "…"` and `zone "…" is too small`, with the whole word as nginx says it.
pub fn name_and_size<'t>(word: &Word, text: &'t [u8]) -> Result<(&'t str, u64), Error> {
    let shown = word.as_str();
    let invalid = || Error::at(word, format!("invalid zone size \"{shown}\""));
    let (name, size) =
        std::str::from_utf8(text).ok().and_then(|text| text.split_once(':')).ok_or_else(invalid)?;
    let size = parse_size(size.as_bytes()).map_err(|_| invalid())?;
    if size < SIZE_MIN {
        return Err(Error::at(word, format!("zone \"{shown}\" is too small")));
    }
    Ok((name, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{FileId, Place};

    #[derive(Debug, PartialEq)]
    struct Counter(OnceLock<Arc<u32>>, &'static str);
    #[derive(Debug)]
    struct Other;

    impl ZoneData for Counter {
        fn adopt(&self, name: &str, earlier: &Self) -> Result<(), String> {
            if self.1 != earlier.1 {
                return Err(format!("{name}: {} was {}", self.1, earlier.1));
            }
            let _ = self.0.set(Arc::clone(earlier.0.get_or_init(|| Arc::new(0))));
            Ok(())
        }
    }

    impl ZoneData for Other {
        fn adopt(&self, _: &str, _: &Self) -> Result<(), String> {
            Ok(())
        }
    }

    fn word(text: &str) -> Word {
        let place = Place { file: FileId::DEFAULT, line: 1, column: 1 };
        Word { bytes: text.as_bytes().into(), place, quoted: false, end_line: 1 }
    }

    #[test]
    fn a_zone_has_one_use_and_one_size() {
        let mut zones = Zones::default();
        let used = zones.refer::<Counter>(&word("one"), "one").expect("new");
        assert_eq!(
            zones.check_sizes().map_err(|e| e.to_string()),
            Err("zero size shared memory zone \"one\"".into())
        );
        let declared = zones.declare::<Counter>(&word("one"), "one", 65536).expect("declared");
        assert_eq!(used, declared);
        assert!(zones.check().is_ok());
        assert!(declared.bind(Counter(OnceLock::new(), "a")).is_ok());
        assert_eq!(used.bind(Counter(OnceLock::new(), "b")).map_err(|known| known.1), Err("a"));
        let refused = |result: Result<(), Error>, expected: &str| {
            assert_eq!(result.map_err(|error| error.to_string()), Err(expected.to_owned()));
        };
        refused(
            zones.declare::<Counter>(&word("one"), "one", 32768).map(drop),
            "the size 32768 of shared memory zone \"one\" conflicts with already declared size 65536",
        );
        refused(
            zones.refer::<Other>(&word("one"), "one").map(drop),
            "the shared memory zone \"one\" is already declared for a different use",
        );
    }

    #[test]
    fn blocks_do_not_share_a_zone() {
        let mut sides = [Zones::default(), Zones::default()];
        for (side, order, name) in
            [(0, 1, "a"), (0, 2, "b"), (1, 3, "c"), (1, 4, "b"), (1, 5, "a"), (1, 6, "b")]
        {
            sides[side].line(Order(order));
            let _ = sides[side].refer::<Counter>(&word(name), name).expect("new or known");
        }
        let [http, stream] = sides;
        for (one, other) in [(&http, &stream), (&stream, &http)] {
            let error = one.check_apart(other).expect_err("shared");
            let sentence = "the shared memory zone \"b\" is already declared for a different use";
            assert_eq!((error.to_string().as_str(), error.order), (sentence, Some(Order(4))));
        }
        assert!(http.check_apart(&Zones::default()).is_ok());
    }

    #[test]
    fn state_is_carried_over_by_name_use_and_size() {
        let made = |key: &'static str, size: u64| {
            let mut zones = Zones::default();
            let zone = zones.declare::<Counter>(&word("z"), "z", size).expect("declared");
            assert!(zone.bind(Counter(OnceLock::new(), key)).is_ok());
            (zones, zone)
        };
        let state =
            |zone: &Zone<Counter>| Arc::clone(zone.data().expect("bound").0.get_or_init(|| Arc::new(0)));
        let (earlier, first) = made("a", 65536);
        let (later, second) = made("a", 65536);
        assert!(later.inherit(&earlier).is_ok());
        assert!(Arc::ptr_eq(&state(&first), &state(&second)));
        let (larger, third) = made("b", 131_072);
        assert!(larger.inherit(&earlier).is_ok());
        assert!(!Arc::ptr_eq(&state(&first), &state(&third)));
        let (other, _) = made("b", 65536);
        assert_eq!(other.inherit(&earlier).map_err(|e| e.to_string()), Err("z: b was a".into()));
    }

    #[test]
    fn names_and_sizes() {
        let check = |text: &str, expected: Result<(&str, u64), &str>| {
            let word = word(&format!("zone={text}"));
            let seen = name_and_size(&word, text.as_bytes()).map_err(|error| error.to_string());
            assert_eq!(seen, expected.map_err(str::to_owned), "{text}");
        };
        check("one:32k", Ok(("one", 32768)));
        check("one:10m", Ok(("one", 10 << 20)));
        check("one", Err("invalid zone size \"zone=one\""));
        check("one:x", Err("invalid zone size \"zone=one:x\""));
        check("one:31k", Err("zone \"zone=one:31k\" is too small"));
    }
}
