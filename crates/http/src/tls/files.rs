//! Certificates and keys out of files: at load through the master, or for one connection by the worker itself.
//!
//! A name with variables is known only when somebody connects. Its file is then read with the worker's rights, as
//! in nginx, and may be kept in a cache.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use conf::{Error, Word};
use net::tls::{Chain, Identity, IdentityError, Key, Trust, TrustError};

use crate::conf::compile::{Cx, absolute};
use crate::request::Request;
use crate::variables::Template;

/// The name of a file of a certificate or key, or `data:` and the text itself, as it is written.
#[derive(Clone, Debug)]
pub enum Written {
    /// Without variables.
    Fixed(Box<[u8]>),
    /// With variables.
    Template(Template),
}

impl Written {
    /// Reads a word.
    ///
    /// # Errors
    /// As [`Template::compile`].
    pub fn compile(cx: &mut Cx<'_>, word: &Word) -> Result<Self, Error> {
        if Template::has_variables(&word.bytes) {
            return Template::compile(cx, word).map(Self::Template);
        }
        Ok(Self::Fixed(word.bytes.to_boxed()))
    }

    /// The text, where it has no variables.
    #[must_use]
    pub fn fixed(&self) -> Option<&[u8]> {
        match self {
            Self::Fixed(text) => Some(text),
            Self::Template(_) => None,
        }
    }

    fn value(&self, r: &Request) -> Cow<'_, [u8]> {
        match self {
            Self::Fixed(text) => Cow::Borrowed(text),
            Self::Template(template) => Cow::Owned(template.value(r)),
        }
    }
}

/// What is named in messages, and its text or why there is none.
type Text = (String, Result<Arc<[u8]>, String>);

/// Certificates with their keys that were loaded while a configuration is compiled, by the names of both.
#[derive(Default)]
pub struct Loaded(HashMap<[Box<[u8]>; 2], Arc<Identity>>);

impl Loaded {
    /// The certificate and key of these files, or `data:` texts.
    ///
    /// # Errors
    /// nginx's sentences.
    pub fn identity(
        &mut self,
        cx: &mut Cx<'_>,
        certificate: &[u8],
        key: &[u8],
        passwords: &[Vec<u8>],
    ) -> Result<Arc<Identity>, Error> {
        let name = [certificate.into(), key.into()];
        if let Some(known) = self.0.get(&name) {
            return Ok(Arc::clone(known));
        }
        let mut read = |text: &[u8]| match text.strip_prefix(b"data:") {
            Some(data) => (String::from_utf8_lossy(text).into_owned(), Ok(Arc::from(data))),
            None => {
                let path = cx.conf_path(file_of(text));
                let read = cx.resources.read_object(&path).map_err(|error| no_file(&path, &error));
                (path.display().to_string(), read)
            }
        };
        let (certificate, key) = (read(certificate), read(key));
        let chain = read_chain(&certificate).map_err(Error::bare)?;
        let identity = join(&chain, &key.0, &read_key(&key, passwords).map_err(Error::bare)?);
        let identity = identity.map_err(Error::bare)?;
        self.0.insert(name, Arc::clone(&identity));
        Ok(identity)
    }
}

/// A file of certificates or lists that is read when it is known that it is needed, as in nginx when all blocks were
/// read.
#[derive(Clone, Debug)]
pub struct PemFile(PathBuf);

impl PemFile {
    /// The file that a word names.
    #[must_use]
    pub fn named(cx: &Cx<'_>, word: &Word) -> Self {
        Self(cx.conf_path(&word.bytes))
    }

    /// The file's name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its text.
    ///
    /// # Errors
    /// Why it cannot be read, as OpenSSL says it behind the name of a function.
    pub fn read(&self, cx: &mut Cx<'_>) -> Result<Arc<[u8]>, String> {
        cx.resources.read_object(&self.0).map_err(|error| no_file(&self.0, &error))
    }
}

/// Reads whom to trust.
///
/// # Errors
/// nginx's sentences.
pub fn read_trust(
    cx: &mut Cx<'_>,
    certificates: &[&PemFile],
    lists: Option<&PemFile>,
    depth: usize,
) -> Result<Trust, Error> {
    let bad = |kind: &str, file: &PemFile, why: String| {
        Error::bare(format!("cannot load {kind} \"{}\": {why}", file.path().display()))
    };
    let mut texts = Vec::new();
    for file in certificates {
        texts.push(file.read(cx).map_err(|why| bad("certificate", file, why))?);
    }
    let list = lists.map(|file| file.read(cx).map_err(|why| bad("CRL", file, why))).transpose()?;
    let texts: Vec<&[u8]> = texts.iter().map(|text| &**text).collect();
    Trust::read(&texts, list.as_deref(), depth).map_err(|error| match (error, lists) {
        (TrustError::Lists(_), Some(file)) => bad("CRL", file, error.to_string()),
        (TrustError::Certificates { index, .. }, _) if index < certificates.len() => {
            bad("certificate", certificates[index], error.to_string())
        }
        _ => Error::bare(error.to_string()),
    })
}

/// The file of a key in the store of files, which is the only store there is.
fn file_of(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"store:file:").unwrap_or(name)
}

fn read_chain((name, text): &Text) -> Result<Chain, String> {
    let sentence = |why: &dyn std::fmt::Display| format!("cannot load certificate \"{name}\": {why}");
    let text = text.as_ref().map_err(|why| sentence(why))?;
    Chain::read(text).map_err(|why| sentence(&why))
}

fn read_key((name, text): &Text, passwords: &[Vec<u8>]) -> Result<Key, String> {
    let sentence = |why: &dyn std::fmt::Display| format!("cannot load certificate key \"{name}\": {why}");
    let text = text.as_ref().map_err(|why| sentence(why))?;
    Key::read(text, passwords).map_err(|why| sentence(&why))
}

fn join(chain: &Chain, key_name: &str, key: &Key) -> Result<Arc<Identity>, String> {
    let joined = Identity::new(chain.clone(), key);
    joined.map(Arc::new).map_err(|why: IdentityError| format!("SSL_CTX_use_PrivateKey(\"{key_name}\") {why}"))
}

/// Why a file could not be read, as OpenSSL says it.
#[must_use]
pub fn no_file(path: &Path, error: &io::Error) -> String {
    let number = error.raw_os_error().unwrap_or(0);
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let routine =
        if number == 2 { "10000080:BIO routines::no such file" } else { "10080002:BIO routines::system lib" };
    format!(
        "BIO_new_file() failed (SSL: error:8{number:07X}:system library::{text}:calling fopen({}, r) error:{routine})",
        path.display()
    )
}

/// A certificate and its key whose names have variables.
pub struct Dynamic {
    /// `ssl_certificate`.
    pub certificate: Written,
    /// `ssl_certificate_key`.
    pub key: Written,
    /// `ssl_password_file`.
    pub passwords: Arc<Vec<Vec<u8>>>,
    /// `ssl_certificate_cache`.
    pub cache: Option<Arc<ObjectCache>>,
    /// What relative names refer to.
    pub conf_prefix: PathBuf,
}

impl Dynamic {
    /// The certificate and key for this request's connection; none where the name is empty.
    ///
    /// # Errors
    /// nginx's sentences.
    pub fn load(&self, r: &Request) -> Result<Option<Arc<Identity>>, String> {
        let loaded = self.load_once(r);
        if loaded.is_err() && self.cache.is_some() {
            // One of them may have been replaced while the other is remembered.
            self.forget(r);
            return self.load_once(r);
        }
        loaded
    }

    fn load_once(&self, r: &Request) -> Result<Option<Arc<Identity>>, String> {
        let name = self.certificate.value(r);
        if name.is_empty() {
            return Ok(None);
        }
        let chain = match self.find(&name, Kind::Certificate) {
            Some(Object::Chain(chain)) => chain,
            _ => {
                let chain = read_chain(&self.text(&name))?;
                self.keep(&name, Object::Chain(chain.clone()));
                chain
            }
        };
        let name = self.key.value(r);
        let key = match self.find(&name, Kind::Key) {
            Some(Object::Key(key)) => key,
            _ => {
                let key = read_key(&self.text(&name), &self.passwords)?;
                if !key.is_encrypted {
                    self.keep(&name, Object::Key(key.clone()));
                }
                key
            }
        };
        join(&chain, &String::from_utf8_lossy(&name), &key).map(Some)
    }

    /// Forgets the certificate and key of this request.
    fn forget(&self, r: &Request) {
        if let Some(cache) = &self.cache {
            cache.forget(&absolute(&self.conf_prefix, &self.certificate.value(r)), Kind::Certificate);
            cache.forget(&absolute(&self.conf_prefix, &self.key.value(r)), Kind::Key);
        }
    }

    fn text(&self, name: &[u8]) -> Text {
        if let Some(data) = name.strip_prefix(b"data:") {
            return (String::from_utf8_lossy(name).into_owned(), Ok(Arc::from(data)));
        }
        let path = absolute(&self.conf_prefix, file_of(name));
        let read = std::fs::read(&path).map(Arc::from).map_err(|error| no_file(&path, &error));
        (path.display().to_string(), read)
    }

    fn find(&self, name: &[u8], kind: Kind) -> Option<Object> {
        self.cache.as_ref()?.find(&absolute(&self.conf_prefix, name), kind)
    }

    fn keep(&self, name: &[u8], object: Object) {
        if let Some(cache) = &self.cache
            && !name.starts_with(b"data:")
        {
            cache.keep(absolute(&self.conf_prefix, name), object);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Certificate,
    Key,
}

#[derive(Clone)]
enum Object {
    Chain(Chain),
    Key(Key),
}

impl Object {
    fn kind(&self) -> Kind {
        match self {
            Self::Chain(_) => Kind::Certificate,
            Self::Key(_) => Kind::Key,
        }
    }
}

struct Entry {
    object: Object,
    /// Time of change and number of the file.
    stamp: (i64, i64, u64),
    checked_ms: u64,
    used_ms: u64,
    /// Counts uses, for those within a millisecond.
    use_number: u64,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<(PathBuf, Kind), Entry>,
    uses: u64,
}

/// `ssl_certificate_cache`: certificates and keys of names with variables, shared by all threads.
pub struct ObjectCache {
    max: usize,
    inactive_ms: u64,
    valid_ms: u64,
    kept: Mutex<Kept>,
}

impl ObjectCache {
    /// A cache of at most `max` certificates and keys.
    #[must_use]
    pub fn new(max: usize, inactive_ms: u64, valid_ms: u64) -> Self {
        Self { max, inactive_ms, valid_ms, kept: Mutex::default() }
    }

    /// Reads the parameters of `ssl_certificate_cache` and its kin; `None` stands for `off`.
    ///
    /// # Errors
    /// `invalid parameter "…"`, and that there must be a `max`.
    pub fn read(d: &conf::Directive) -> Result<Option<Arc<Self>>, Error> {
        let (mut max, mut inactive, mut valid, mut is_off) = (0, 10_000, 60_000, false);
        for word in &d.args {
            let invalid = || Error::at(word, format!("invalid parameter \"{}\"", word.as_str()));
            let seconds =
                |text: &[u8]| base::parse_time_sec(text).map(|sec| sec * 1000).map_err(|_| invalid());
            if let Some(text) = word.after("max=") {
                max = conf::parse_number(text).filter(|max| *max > 0).ok_or_else(invalid)?;
            } else if let Some(text) = word.after("inactive=") {
                inactive = seconds(text)?;
            } else if let Some(text) = word.after("valid=") {
                valid = seconds(text)?;
            } else if word.is("off") {
                is_off = true;
            } else {
                return Err(invalid());
            }
        }
        if is_off {
            return Ok(None);
        }
        if max == 0 {
            let sentence = format!("\"{}\" must have the \"max\" parameter", d.name.as_str());
            return Err(Error::at(&d.name, sentence));
        }
        Ok(Some(Arc::new(Self::new(usize::try_from(max).unwrap_or(usize::MAX), inactive, valid))))
    }

    fn find(&self, path: &Path, kind: Kind) -> Option<Object> {
        let now = net::timer::now_ms();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { entries, uses } = &mut *kept;
        let key = (path.to_owned(), kind);
        let entry = entries.get_mut(&key)?;
        if now.saturating_sub(entry.checked_ms) > self.valid_ms {
            if stamp_of(path) != Some(entry.stamp) {
                entries.remove(&key);
                return None;
            }
            entry.checked_ms = now;
        }
        *uses += 1;
        entry.used_ms = now;
        entry.use_number = *uses;
        Some(entry.object.clone())
    }

    fn forget(&self, path: &Path, kind: Kind) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.remove(&(path.to_owned(), kind));
    }

    fn keep(&self, path: PathBuf, object: Object) {
        let Some(stamp) = stamp_of(&path) else { return };
        let now = net::timer::now_ms();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { entries, uses } = &mut *kept;
        entries.retain(|_, entry| now.saturating_sub(entry.used_ms) <= self.inactive_ms);
        while entries.len() >= self.max {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.use_number).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            entries.remove(&oldest);
        }
        *uses += 1;
        let kind = object.kind();
        let entry = Entry { object, stamp, checked_ms: now, used_ms: now, use_number: *uses };
        entries.insert((path, kind), entry);
    }
}

fn stamp_of(path: &Path) -> Option<(i64, i64, u64)> {
    let info = std::fs::metadata(path).ok()?;
    Some((info.mtime(), info.mtime_nsec(), info.ino()))
}
