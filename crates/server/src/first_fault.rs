//! Of all that is wrong with a configuration, what nginx finds first, and what it warns of until then.
//!
//! Compiling goes level by level and stops where it cannot go on; nginx goes line by line. So what stopped it is a
//! beginning, and whether an earlier line is wrong is asked again and again until none is.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conf::resources::{LogFile, Resources, SocketSpec};
use conf::{Error, Order, Tree};

use crate::core_conf::CoreConf;
use crate::engine::Engine;
use crate::paths::Paths;

/// Finds the first fault at or before `found`, and leaves in `notices` what nginx says before it.
pub(crate) fn first_fault<E: Engine>(
    tree: &Tree,
    paths: &Paths,
    found: Error,
    resources: &mut dyn Resources,
    notices: &mut Vec<Error>,
) -> Error {
    let mut first = found;
    loop {
        let before = first.order.unwrap_or(Order::END_OF_BLOCK);
        let mut said = Vec::new();
        let mut pretend = Pretend(&mut *resources);
        let core = CoreConf::wrong_line(tree, paths, E::modules(), before, &mut said);
        let engine = E::wrong_line(tree, paths, &mut pretend, before, &mut said);
        match core.into_iter().chain(engine).min_by_key(|error| error.order) {
            Some(earlier) => {
                first = earlier;
                *notices = said;
            }
            None => {
                // What is said where the fault is was said by the pass that got there.
                notices.retain(|notice| notice.order == Some(before));
                notices.extend(tree.notices.iter().cloned().chain(said));
                notices.retain(|notice| notice.order.is_none_or(|order| order <= before));
                notices.sort_by_key(|notice| notice.order);
                return first;
            }
        }
    }
}

/// Reads what is there, and only pretends to open what will be written or listened on.
pub(crate) struct Pretend<'a>(pub(crate) &'a mut dyn Resources);

fn nothing() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/dev/null")?.into())
}

impl Resources for Pretend<'_> {
    fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.0.read(path)
    }

    fn read_object(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.0.read_object(path)
    }

    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.glob(pattern)
    }

    fn socket(&mut self, _: &SocketSpec) -> io::Result<Arc<OwnedFd>> {
        nothing().map(Arc::new)
    }

    fn log(&mut self, path: &Path) -> io::Result<Arc<LogFile>> {
        Ok(Arc::new(LogFile::new(path.to_owned(), nothing()?)))
    }

    fn directory(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn resolve(&mut self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.0.resolve(host)
    }
}
