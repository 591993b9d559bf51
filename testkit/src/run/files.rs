//! Steps about files under the root of a run.
//!
//! Every file gets a fixed time of change, so that its ETag is the same in every run.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::Run;
use crate::prelude::dress;
use crate::script::{ActKind, Step, StepKind};
use crate::text::pattern;

impl Run<'_> {
    /// Puts a configuration of the scenario in place.
    pub(super) fn configure(&self, file: &str) -> Result<(), String> {
        let path = self.scenario.folder.join(file);
        let conf = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.write("nginx.conf", &self.expand(&dress(&conf, &self.binary.paths, &self.binary.events))?)
    }

    pub(super) fn write(&self, path: &str, text: &str) -> Result<(), String> {
        let path = self.places.root().join(path);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(super) fn file_step(&self, step: &Step) -> Result<(), String> {
        let at = |path: &str| {
            self.bytes(path).map(|path| self.places.root().join(std::ffi::OsString::from_vec(path)))
        };
        let said = |path: &Path, result: std::io::Result<()>| {
            result.map_err(|error| format!("{}: {error}", path.display()))
        };
        match &step.kind {
            StepKind::File { path, mode, mtime } => {
                let path = at(path)?;
                let bytes = self.contents(step)?;
                said(&path, make_file(&path, &bytes, *mode, *mtime))
            }
            StepKind::Dir { path, mode } => {
                let path = at(path)?;
                said(&path, std::fs::create_dir_all(&path).and_then(|()| permit(&path, *mode)))
            }
            StepKind::Link { path, target } => {
                let path = at(path)?;
                let target = self.expand(target)?;
                said(&path, make_parent(&path).and_then(|()| std::os::unix::fs::symlink(target, &path)))
            }
            StepKind::Rename(from, to) => {
                let (from, to) = (at(from)?, at(to)?);
                said(&from, std::fs::rename(&from, to))
            }
            StepKind::Remove(path) => {
                let path = at(path)?;
                said(&path, std::fs::remove_file(&path))
            }
            StepKind::Exists(path) => self.until_exists(path),
            StepKind::Missing(path) => match at(path)?.exists() {
                true => Err("it exists".into()),
                false => Ok(()),
            },
            other => Err(format!("not a step about files: {other:?}")),
        }
    }

    fn contents(&self, step: &Step) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for act in &step.acts {
            match &act.kind {
                ActKind::Text(line) => {
                    bytes.extend_from_slice(self.expand(line)?.as_bytes());
                    bytes.push(b'\n');
                }
                ActKind::Whole(text) => bytes.extend_from_slice(&self.bytes(text)?),
                ActKind::Pattern(length) => bytes.extend_from_slice(&pattern(*length)),
                ActKind::From(path) => {
                    let path = self.scenario.folder.join(path);
                    let text =
                        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                    bytes.extend_from_slice(&text);
                }
                _ => return Err(format!("not a line of a file: {}", act.text)),
            }
        }
        Ok(bytes)
    }

    fn until_exists(&self, path: &str) -> Result<(), String> {
        let path: PathBuf = self.places.root().join(self.expand(path)?);
        let deadline = std::time::Instant::now() + super::PATIENCE;
        while !path.exists() {
            if std::time::Instant::now() > deadline {
                return Err("it does not exist".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

fn make_file(path: &Path, bytes: &[u8], mode: u32, mtime: u64) -> std::io::Result<()> {
    make_parent(path)?;
    std::fs::write(path, bytes)?;
    std::fs::File::options().write(true).open(path)?.set_modified(UNIX_EPOCH + Duration::from_secs(mtime))?;
    permit(path, mode)
}

fn make_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

fn permit(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
