//! Where things are: the built-in places, and how names in the configuration become paths.
//!
//! As in the packages of nginx.org: all below `/etc/nginx`, logs below `/var/log/nginx`.

use std::path::{Path, PathBuf};

use crate::cli::Options;

/// Directory that relative names start at, unless `-p` tells another.
pub const PREFIX: &str = "/etc/nginx/";
/// The configuration, unless `-c` tells another.
pub const CONF_PATH: &str = "/etc/nginx/nginx.conf";
/// The error log until the configuration names one, unless `-e` tells another.
pub const ERROR_LOG_PATH: &str = "/var/log/nginx/error.log";
/// Where `pid` is, unless the configuration tells.
pub const PID_PATH: &str = "/run/nginx.pid";
/// The worker's user, unless `user` tells another.
pub const USER: &str = "nobody";
/// The worker's group; the second one is Debian's name of it.
pub const GROUPS: [&str; 2] = ["nobody", "nogroup"];

/// The paths that the command line has settled; all are absolute.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Logs, pid, roots and temporary directories with relative names are below it.
    pub prefix: PathBuf,
    /// The main configuration file.
    pub conf_file: PathBuf,
    /// Included files, certificates and keys with relative names are below it.
    pub conf_dir: PathBuf,
    /// The error log until the configuration names one; `None` is standard error.
    pub error_log: Option<PathBuf>,
}

impl Paths {
    /// The paths for a command line.
    ///
    /// # Errors
    /// The error of asking for the current directory.
    pub(crate) fn new(options: &Options) -> std::io::Result<Self> {
        let prefix = match &options.prefix {
            Some(prefix) => std::path::absolute(prefix)?,
            None => PathBuf::from(PREFIX),
        };
        let conf_file = prefix.join(options.conf_file.as_deref().unwrap_or(Path::new(CONF_PATH)));
        let conf_dir = conf_file.parent().unwrap_or(Path::new("/")).to_owned();
        let error_log = match options.error_log.as_deref() {
            Some(name) if name.as_os_str().is_empty() || name == Path::new("stderr") => None,
            Some(name) => Some(prefix.join(name)),
            None => Some(prefix.join(ERROR_LOG_PATH)),
        };
        Ok(Self { prefix, conf_file, conf_dir, error_log })
    }

    /// The path of a log, directory or root in the configuration.
    #[must_use]
    pub fn full(&self, name: &Path) -> PathBuf {
        self.prefix.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        let options = Options {
            prefix: Some("/srv/x/".into()),
            conf_file: Some("conf/a.conf".into()),
            error_log: Some("e.log".into()),
            ..Options::default()
        };
        let paths = Paths::new(&options).expect("paths");
        assert_eq!(paths.conf_file, Path::new("/srv/x/conf/a.conf"));
        assert_eq!(paths.error_log.as_deref(), Some(Path::new("/srv/x/e.log")));
        assert_eq!(paths.full(Path::new("logs/a")), Path::new("/srv/x/logs/a"));
        assert_eq!(paths.full(Path::new("/abs")), Path::new("/abs"));

        let paths = Paths::new(&Options::default()).expect("paths");
        assert_eq!(paths.conf_file, Path::new(CONF_PATH));
        let options = Options { error_log: Some("stderr".into()), ..Options::default() };
        assert_eq!(Paths::new(&options).expect("paths").error_log, None);
    }
}
