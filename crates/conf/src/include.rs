//! `include`: one file or all that match a pattern, read in place of the directive.
//!
//! A pattern that matches nothing is no error, a missing file is, unless it is one that is shipped; a file never
//! includes itself.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::lexer::{Lexer, Statement};
use crate::parse::{Parser, Scope, Text};
use crate::shipped;
use crate::sources::{Origin, Source};
use crate::{Error, Fault, Spot};

/// Files in files; nginx has no limit but that of open files.
const MAX_INCLUDES: usize = 64;

impl Parser<'_> {
    /// Reads what an `include` names, relative to the directory of the main file (`ngx_conf_include`).
    pub(crate) fn include(&mut self, statement: &Statement, scope: &mut Scope) -> Result<(), Error> {
        let Some(word) = statement.args.first() else { return Ok(()) };
        let path = self.prefix.join(OsStr::from_bytes(&word.bytes));
        let spot = Spot { place: word.place, line: word.end_line };
        if !word.bytes.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
            return self.file_or(&path, Some(spot), scope, shipped::text(&word.bytes));
        }
        let found =
            self.resources.glob(&path).map_err(|error| file_fault("glob", &path, &error, Some(spot)))?;
        for path in found {
            self.file(&path, Some(spot), scope)?;
        }
        Ok(())
    }

    /// Reads one file to its end into the scope around it.
    pub(crate) fn file(&mut self, path: &Path, from: Option<Spot>, scope: &mut Scope) -> Result<(), Error> {
        self.file_or(path, from, scope, None)
    }

    /// As [`Self::file`]; where there is no such file, `shipped` takes its place.
    fn file_or(
        &mut self,
        path: &Path,
        from: Option<Spot>,
        scope: &mut Scope,
        shipped: Option<&'static [u8]>,
    ) -> Result<(), Error> {
        if self.files.iter().any(|open| open == path) {
            return Err(Error::new(Fault::IncludesItself(path.to_string_lossy().into_owned()), from));
        }
        if self.files.len() == MAX_INCLUDES {
            return Err(Error::new(Fault::TooManyIncludes(MAX_INCLUDES), from));
        }
        let (id, text) = match self.sources.known(path) {
            Some(known) => known,
            None => {
                let text = match (self.resources.read(path), shipped) {
                    (Ok(text), _) => text,
                    (Err(error), Some(text)) if error.kind() == io::ErrorKind::NotFound => text.into(),
                    (Err(error), _) => return Err(file_fault("open", path, &error, from)),
                };
                let source = Source {
                    path: path.to_owned(),
                    text: text.clone(),
                    origin: Origin::File,
                    included_from: from.map(|spot| spot.place),
                };
                (self.sources.add(source), text)
            }
        };
        self.files.push(path.to_owned());
        self.statements(&mut Lexer::new(&text, id, Origin::File), Text::File, scope)?;
        self.files.pop();
        Ok(())
    }
}

fn file_fault(call: &'static str, path: &Path, error: &io::Error, spot: Option<Spot>) -> Error {
    let path = path.to_string_lossy().into_owned();
    Error::new(Fault::File { call, path, reason: reason(error) }, spot)
}

/// An error of the system as nginx writes it: `2: No such file or directory`.
fn reason(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind()) {
        (Some(number), _) => {
            let text = error.to_string();
            let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
            format!("{number}: {text}")
        }
        (None, io::ErrorKind::NotFound) => "2: No such file or directory".to_owned(),
        (None, io::ErrorKind::PermissionDenied) => "13: Permission denied".to_owned(),
        (None, _) => error.to_string(),
    }
}
