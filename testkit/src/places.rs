//! What `@NAME@` in a configuration or script stands for, and the way back for comparing two runs.
//!
//! A name that is not known stays as it is written when it is not in capitals, since `@name` is also a
//! named location.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::ports::free_port;

/// The values of one run. Ports are chosen when they are first asked for.
#[derive(Debug)]
pub struct Places {
    root: PathBuf,
    known: Mutex<BTreeMap<String, String>>,
}

/// Why a placeholder has no value.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The name is in capitals but means nothing.
    #[error("unknown placeholder \"@{0}@\"")]
    Unknown(String),
    /// No port could be had.
    #[error("{0}")]
    Ports(#[from] std::io::Error),
}

impl Places {
    /// The places of a run that lives under `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let certificates = crate::tls::certificates().display().to_string();
        let known = BTreeMap::from([
            ("ROOT".to_owned(), root.display().to_string()),
            ("CERTS".to_owned(), certificates),
        ]);
        Self { root: root.to_owned(), known: Mutex::new(known) }
    }

    /// The folder of the run.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The text with all placeholders replaced.
    ///
    /// # Errors
    /// A name in capitals that is not known, or no free port.
    pub fn expand(&self, text: &str) -> Result<String, PlaceError> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('@') {
            expanded.push_str(before);
            match after.split_once('@') {
                Some((name, behind)) if is_name(name) => {
                    expanded.push_str(&self.value(name)?);
                    rest = behind;
                }
                _ => {
                    expanded.push('@');
                    rest = after;
                }
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// The value of one placeholder.
    ///
    /// # Errors
    /// A name that is not known, or no free port.
    pub fn value(&self, name: &str) -> Result<String, PlaceError> {
        if let Some(value) = self.lock().get(name) {
            return Ok(value.clone());
        }
        let unknown = || PlaceError::Unknown(name.to_owned());
        // @REP(9000,a)@ is nine thousand times "a".
        if let Some((count, text)) = name
            .strip_prefix("REP(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|rest| rest.split_once(','))
        {
            return Ok(text.repeat(count.parse().map_err(|_| unknown())?));
        }
        if let Some(delta) = name.strip_prefix("DATE") {
            let delta = if delta.is_empty() { 0 } else { delta.parse().map_err(|_| unknown())? };
            return Ok(crate::dates::format(crate::dates::now() + delta));
        }
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = name.strip_prefix(kind).unwrap_or_default();
        let value = match kind {
            "PORT" => free_port()?.to_string(),
            "ADDR" => format!("127.0.0.1:{}", self.value(&format!("PORT{number}"))?),
            "OPORT" => free_port()?.to_string(),
            "ORIGIN" => format!("127.0.0.1:{}", self.value(&format!("OPORT{number}"))?),
            "DEADPORT" => free_port()?.to_string(),
            "DEAD" => format!("127.0.0.1:{}", self.value(&format!("DEADPORT{number}"))?),
            "SOCK" => self.root.join(format!("s{number}.sock")).display().to_string(),
            "OSOCK" => self.root.join(format!("o{number}.sock")).display().to_string(),
            _ => return Err(unknown()),
        };
        self.lock().insert(name.to_owned(), value.clone());
        Ok(value)
    }

    /// The text with the values of this run replaced by their names, so that two runs can be compared.
    #[must_use]
    pub fn anonymous(&self, text: &str) -> String {
        let known = self.lock();
        let mut pairs: Vec<(&String, &String)> = known.iter().collect();
        // An address before the port that it contains.
        pairs.sort_by_key(|(name, value)| (std::cmp::Reverse(value.len()), *name));
        pairs
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(value.as_str(), &format!("@{name}@")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_name(name: &str) -> bool {
    let word = name.split(['(', '+', '-']).next().unwrap_or_default();
    !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion() {
        let places = Places::new(Path::new("/tmp/run"));
        let expand = |text: &str| places.expand(text).unwrap_or_else(|error| error.to_string());
        assert_eq!(expand("root @ROOT@/html;"), "root /tmp/run/html;");
        assert_eq!(expand("error_page 404 @fallback; a@b"), "error_page 404 @fallback; a@b");
        assert_eq!(expand("@REP(3,ab)@"), "ababab");
        assert_eq!(expand("@SOCK1@"), "/tmp/run/s1.sock");
        assert_eq!(expand("@NONSENSE@"), "unknown placeholder \"@NONSENSE@\"");
        let address = expand("@ADDR1@");
        assert_eq!(address, format!("127.0.0.1:{}", expand("@PORT1@")));
        assert_eq!(places.anonymous(&format!("http://{address}/x")), "http://@ADDR1@/x");
    }
}
