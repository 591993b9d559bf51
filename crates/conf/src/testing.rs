//! What the tests of this crate share: files in memory, and a schema in which everything documented works.
//!
//! Directives that nginx allows once are listed here, since the documented rows do not tell.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use crate::resources::{LogFile, Resources, SocketSpec};
use crate::{Error, Repeat, Row, Schema, Sources, Status, Tree, documented};

/// The directory of the configuration in memory.
pub(crate) const PREFIX: &str = "/etc/nginx/";

/// Files by path below [`PREFIX`].
#[derive(Default)]
pub(crate) struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    pub(crate) fn with(mut self, name: &str, text: &[u8]) -> Self {
        self.0.insert(Path::new(PREFIX).join(name), text.to_owned());
        self
    }
}

impl Resources for Memory {
    fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.0.get(path).map(|text| Arc::from(text.as_slice())).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern.to_string_lossy().into_owned();
        let matches = |path: &&PathBuf| fits(pattern.as_bytes(), path.to_string_lossy().as_bytes());
        Ok(self.0.keys().filter(matches).cloned().collect())
    }

    fn socket(&mut self, _: &SocketSpec) -> io::Result<Arc<OwnedFd>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn log(&mut self, _: &Path) -> io::Result<Arc<LogFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn directory(&mut self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Whether a path fits a pattern of `*`, `?` and one-letter brackets.
fn fits(pattern: &[u8], path: &[u8]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            fits(rest, path) || path.split_first().is_some_and(|(c, tail)| *c != b'/' && fits(pattern, tail))
        }
        ([b'?', rest @ ..], [_, tail @ ..]) => fits(rest, tail),
        ([b'[', letter, b']', rest @ ..], [c, tail @ ..]) => letter == c && fits(rest, tail),
        ([letter, rest @ ..], [c, tail @ ..]) => letter == c && fits(rest, tail),
        _ => false,
    }
}

const ONCE: [&str; 15] = [
    "accept_mutex",
    "client_max_body_size",
    "default_type",
    "events",
    "gzip",
    "http",
    "keepalive_timeout",
    "pid",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_read_timeout",
    "root",
    "types_hash_max_size",
    "user",
    "worker_processes",
];

/// Everything that is documented, as if it worked.
pub(crate) static WORKING: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(documented().map(|known| -> &'static Row {
        let repeat = if ONCE.contains(&known.row.name) { Repeat::Once } else { Repeat::Many };
        Box::leak(Box::new(Row { status: Status::Works, repeat, ..known.row }))
    }))
});

/// Parses `t.conf` of some files.
pub(crate) fn parse_files(
    schema: &Schema,
    mut files: Memory,
    globals: Option<&str>,
) -> (Result<Tree, Error>, Sources) {
    let mut sources = Sources::new();
    let main = Path::new(PREFIX).join("t.conf");
    let result = crate::parse(&main, schema, &mut files, globals, &mut sources);
    (result, sources)
}

/// Parses one text.
pub(crate) fn parse_text(schema: &Schema, text: &str) -> (Result<Tree, Error>, Sources) {
    parse_files(schema, Memory::default().with("t.conf", text.as_bytes()), None)
}

/// A directive as one line: words in angle brackets where they hold a space, blocks in braces.
pub(crate) fn outline(directives: &[crate::Directive]) -> String {
    let one = |directive: &crate::Directive| {
        let words = std::iter::once(&directive.name).chain(&directive.args);
        let words: Vec<String> = words.map(|word| format!("<{}>", word.as_str())).collect();
        let body = directive.block.as_ref().map(|_| format!("{{{}}}", outline(directive.body())));
        let body = body.unwrap_or_default();
        words.concat() + &body
    };
    directives.iter().map(one).collect::<Vec<_>>().join(";")
}
