//! A measured server: started alone on its core in a fresh prefix directory, ended when dropped.
//! A server that ends at once or never listens is told with the last lines that it wrote.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{BenchError, Context};
use crate::process::tree;
use crate::rows::{Flavor, Row};

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server and its directory.
pub struct Server {
    child: Child,
    prefix: PathBuf,
    address: SocketAddr,
}

impl Server {
    /// Starts `binary` on `core` with the configuration of `row` in `prefix`, which must not exist yet.
    ///
    /// # Errors
    /// [`BenchError::Server`] when it does not listen within ten seconds, [`BenchError::Io`] when it
    /// cannot be started at all.
    pub fn start(
        binary: &Path,
        core: usize,
        row: &Row,
        prefix: PathBuf,
        origin: &str,
    ) -> Result<Self, BenchError> {
        let port = free_port().context(|| "cannot find a free port".to_owned())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let kind = Flavor::of(binary).context(|| format!("cannot run {}", binary.display()))?;
        row.prepare(&prefix, port, origin, kind).context(|| format!("cannot write {}", prefix.display()))?;
        let told = prefix.join("stderr");
        let stderr = File::create(&told).context(|| format!("cannot write {}", told.display()))?;
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .arg(binary)
            .arg("-p")
            .arg(format!("{}/", prefix.display()))
            .arg("-c")
            .arg(prefix.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .context(|| "cannot start taskset".to_owned())?;
        let mut server = Self { child, prefix, address };
        server.wait_until_it_listens(binary)?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its first process, the master if it has one.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_listens(&mut self, binary: &Path) -> Result<(), BenchError> {
        let deadline = Instant::now() + PATIENCE;
        let name = binary.display();
        while TcpStream::connect(self.address).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(BenchError::Server(format!("{name} ended with {status}: {}", self.last_words())));
            }
            if Instant::now() > deadline {
                return Err(BenchError::Server(format!("{name} does not listen: {}", self.last_words())));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.prefix.join("stderr")).unwrap_or_default();
        let log = fs::read_to_string(self.prefix.join("logs/error.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().chain(log.lines()).collect();
        lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" | ")
    }

    fn stop(&mut self) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let processes = tree(self.pid());
        signal("-TERM", &[self.pid()])?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                signal("-KILL", &processes)?;
                self.child.wait()?;
                break;
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("tidegate-bench: cannot stop process {}: {error}", self.pid());
        }
        let _ = fs::remove_dir_all(&self.prefix);
    }
}

fn signal(name: &str, pids: &[u32]) -> io::Result<()> {
    let pids = pids.iter().map(u32::to_string);
    Command::new("kill").arg(name).args(pids).stderr(Stdio::null()).status().map(drop)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
