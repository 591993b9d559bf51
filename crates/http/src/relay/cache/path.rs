//! `*_cache_path`: a zone of the cache and where its files lie (`ngx_http_file_cache_set_slot`).

use std::sync::Arc;

use cache::{Keeper, Levels, Options, Pace, Zone};
use conf::zones::ZoneData;
use conf::{Directive, Error, Word};
use os::errlog::Level;

use crate::conf::compile::Cx;
use crate::cycle::Cycle;

/// What lies in a shared zone that answers are kept in.
pub struct CacheZone(Arc<Zone>);

impl CacheZone {
    /// The zone.
    #[must_use]
    pub fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.0)
    }
}

impl ZoneData for CacheZone {
    fn adopt(&self, _: &str, earlier: &Self) -> Result<(), String> {
        self.0.adopt(&earlier.0)
    }
}

/// Looks after the zones of a configuration.
pub(in crate::relay) fn keep(cycle: &Cycle) -> Option<Keeper> {
    let zones: Vec<_> =
        cycle.http.zones.all::<CacheZone>().filter_map(|zone| Some(zone.data()?.zone())).collect();
    if zones.is_empty() {
        return None;
    }
    let log = Arc::clone(&cycle.globals.log);
    let tell = move |line: &str| log.log(Level::Notice, format_args!("{line}"));
    Some(Keeper::start(&zones, Arc::new(tell)))
}

/// The least size of `keys_zone`: two pages, as in nginx.
const KEYS_MIN: u64 = 2 * 4096;

/// The setter of the directive.
///
/// # Errors
/// nginx's sentences for what it does not take.
pub fn set(cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let first = d.arg(0)?;
    let bytes = first.bytes.strip_suffix(b"/").filter(|path| !path.is_empty()).unwrap_or(&first.bytes);
    let mut options = Options {
        path: cx.path(bytes),
        levels: Levels::default(),
        use_temp_path: true,
        keys_size: 0,
        inactive_s: 600,
        max_size: u64::MAX,
        min_free: 0,
        memory: 0,
        manager: Pace::default(),
        loader: Pace::default(),
        purger: Pace { files: 10, threshold_ms: 50, ..Pace::default() },
    };
    let mut name = String::new();
    for word in d.args.iter().skip(1) {
        let text = word.as_str();
        let (parameter, value) = text.split_once('=').unwrap_or((&text, ""));
        if parameter == "keys_zone" {
            (name, options.keys_size) = keys_zone(word, value)?;
        } else {
            read(&mut options, word, parameter, value)?;
        }
    }
    if name.is_empty() {
        let sentence = format!("\"{}\" must have \"keys_zone\" parameter", d.name.as_str());
        return Err(Error::at(&d.name, sentence));
    }
    cx.resources.directory(&options.path).map_err(|error| {
        let shown = options.path.display();
        Error::at(first, format!("mkdir() \"{shown}\" failed {}", os::errlog::Errno(&error)))
    })?;
    let zone = cx.zones.declare::<CacheZone>(&d.name, &name, options.keys_size)?;
    zone.bind(CacheZone(Arc::new(Zone::new(&name, options))))
        .map_err(|_| Error::at(&d.name, format!("duplicate zone \"{name}\"")))
}

fn keys_zone(word: &Word, value: &str) -> Result<(String, u64), Error> {
    let shown = word.as_str();
    let invalid = || Error::at(word, format!("invalid keys zone size \"{shown}\""));
    let (name, size) = value.split_once(':').ok_or_else(invalid)?;
    let size = base::parse_size(size.as_bytes()).map_err(|_| invalid())?;
    if size < KEYS_MIN {
        return Err(Error::at(word, format!("keys zone \"{shown}\" is too small")));
    }
    Ok((name.to_owned(), size))
}

fn read(options: &mut Options, word: &Word, parameter: &str, value: &str) -> Result<(), Error> {
    let shown = word.as_str();
    let invalid = || Error::at(word, format!("invalid {parameter} value \"{shown}\""));
    let bytes = value.as_bytes();
    let time = || base::parse_time_ms(bytes).map_err(|_| invalid());
    let count = || value.parse::<u64>().map_err(|_| invalid());
    let size = || base::parse_offset(bytes).map_err(|_| invalid());
    let (pace, part) = match parameter.split_once('_') {
        Some(("manager", part)) => (Some(&mut options.manager), part),
        Some(("loader", part)) => (Some(&mut options.loader), part),
        Some(("purger", part)) => (Some(&mut options.purger), part),
        _ => (None, ""),
    };
    match (pace, part, parameter) {
        (Some(pace), "files", _) => pace.files = count()?.max(1),
        (Some(pace), "sleep", _) => pace.sleep_ms = time()?,
        (Some(pace), "threshold", _) => pace.threshold_ms = time()?,
        (_, _, "levels") => options.levels = levels(word, bytes)?,
        (_, _, "use_temp_path") => {
            options.use_temp_path = switch(value).ok_or_else(|| {
                let must = "it must be \"on\" or \"off\"";
                Error::at(word, format!("invalid use_temp_path value \"{shown}\", {must}"))
            })?;
        }
        (_, _, "inactive") => options.inactive_s = base::parse_time_sec(bytes).map_err(|_| invalid())?,
        (_, _, "max_size") => options.max_size = size()?,
        (_, _, "min_free") => options.min_free = size()?,
        (_, _, "memory") => options.memory = size()?,
        // What is to be purged is looked for at once, whatever this says.
        (_, _, "purger") => {
            switch(value).ok_or_else(invalid)?;
        }
        _ => return Err(Error::at(word, format!("invalid parameter \"{shown}\""))),
    }
    Ok(())
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn levels(word: &Word, value: &[u8]) -> Result<Levels, Error> {
    let mut levels = Levels::default();
    let mut parts = value.split(|byte| *byte == b':');
    let invalid = || Error::at(word, format!("invalid \"levels\" \"{}\"", word.as_str()));
    for level in &mut levels {
        match parts.next() {
            Some(b"1") => *level = 1,
            Some(b"2") => *level = 2,
            Some(_) => return Err(invalid()),
            None => break,
        }
    }
    if parts.next().is_some() { Err(invalid()) } else { Ok(levels) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conf::{FileId, Place};

    fn word(text: &str) -> Word {
        let place = Place { file: FileId::DEFAULT, line: 1, column: 1 };
        Word { bytes: text.as_bytes().into(), place, quoted: false, end_line: 1 }
    }

    #[test]
    fn levels_are_nginx_s() {
        let check = |text: &str, expected: Option<Levels>| {
            assert_eq!(levels(&word(text), text.as_bytes()).ok(), expected, "{text}");
        };
        check("1:2", Some([1, 2, 0]));
        check("2", Some([2, 0, 0]));
        check("1:1:1", Some([1, 1, 1]));
        check("1:1:1:1", None);
        check("3", None);
        check("", None);
        check("1:", None);
    }

    #[test]
    fn zones_have_a_name_and_a_size() {
        let check = |text: &str, expected: Result<(&str, u64), &str>| {
            let word = word(&format!("keys_zone={text}"));
            let seen = keys_zone(&word, text).map_err(|error| error.to_string());
            assert_eq!(
                seen,
                expected.map(|(name, size)| (name.into(), size)).map_err(str::to_owned),
                "{text}"
            );
        };
        check("a:1m", Ok(("a", 1 << 20)));
        check("a", Err("invalid keys zone size \"keys_zone=a\""));
        check("a:x", Err("invalid keys zone size \"keys_zone=a:x\""));
        check("a:4k", Err("keys zone \"keys_zone=a:4k\" is too small"));
    }
}
