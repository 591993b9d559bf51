//! Real applications behind the servers: PHP-FPM and Gunicorn, each on a Unix socket.
//!
//! One serves a whole row, both servers in turn. It shares the load's core, so those rows are marked as disturbed. A
//! page has as many bytes as its query says.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{BenchError, Context};

/// How long an application may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which application a row asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PHP-FPM, over FastCGI.
    Php,
    /// Gunicorn, over HTTP/1.1.
    Gunicorn,
}

/// A running application; it ends when dropped.
pub struct Application {
    child: Child,
    socket: PathBuf,
}

const PAGE: &str = "<?php
$length = (int)$_SERVER['QUERY_STRING'];
header('Content-Type: text/plain');
header('Content-Length: ' . $length);
echo str_repeat('x', $length);
";

const WSGI: &str = "
def app(environ, start_response):
    length = int(environ['QUERY_STRING'])
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(length))])
    return [b'x' * length]
";

impl Application {
    /// Starts one in `folder`, which is made.
    ///
    /// # Errors
    /// [`BenchError::Server`] when it is not installed or does not listen.
    pub fn start(kind: Kind, folder: &Path) -> Result<Self, BenchError> {
        let failed = || format!("cannot write {}", folder.display());
        fs::create_dir_all(folder).context(failed)?;
        let socket = folder.join("app.sock");
        let program = find(kind)?;
        let mut command = Command::new(&program);
        match kind {
            Kind::Php => {
                fs::write(folder.join("index.php"), PAGE).context(failed)?;
                let pool = format!(
                    "[global]\ndaemonize = no\nerror_log = {0}/fpm.log\n[www]\nuser = root\ngroup = root\n\
                     listen = {1}\nlisten.mode = 0666\npm = static\npm.max_children = 4\n",
                    folder.display(),
                    socket.display()
                );
                fs::write(folder.join("fpm.conf"), pool).context(failed)?;
                command.args(["-R", "-n", "-F", "-d", "zend_extension=opcache", "-y"]);
                command.arg(folder.join("fpm.conf"));
            }
            Kind::Gunicorn => {
                fs::write(folder.join("page.py"), WSGI).context(failed)?;
                command.args(["--workers", "1", "--threads", "4", "--keep-alive", "30", "--umask", "0"]);
                command.args(["--log-level", "warning", "page:app", "--bind"]);
                command.arg(format!("unix:{}", socket.display())).current_dir(folder);
            }
        }
        let log = fs::File::create(folder.join("said")).context(failed)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().context(|| format!("cannot start {}", program.display()))?;
        let mut application = Self { child, socket };
        application.wait_until_it_listens(&program)?;
        Ok(application)
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn wait_until_it_listens(&mut self, program: &Path) -> Result<(), BenchError> {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&self.socket).is_err() {
            let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if has_ended || Instant::now() > deadline {
                return Err(BenchError::Server(format!("{} does not listen", program.display())));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// The program of a kind; PHP-FPM has its version in its name.
fn find(kind: Kind) -> Result<PathBuf, BenchError> {
    let name = match kind {
        Kind::Php => "php-fpm",
        Kind::Gunicorn => "gunicorn",
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut found = folders.filter_map(|folder| {
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
        files.sort();
        files.into_iter().next()
    });
    found.next().ok_or_else(|| BenchError::Server(format!("{name} is not installed")))
}
