//! A folder, ports, origins and a server under test, all gone when it is dropped.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use testkit::client::Client;
use testkit::message::Message;
use testkit::origin::{Body, Door, OriginSpec, Origins, ReplyAct, Rule, Speech};
use testkit::places::Places;
use testkit::prelude::dress;
use testkit::process::{Binary, Server, signal};

/// How long anything may take that should take next to nothing.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Where one part runs. The server ends before its origins, and both before the folder.
pub struct Ground {
    server: Option<Server>,
    /// What stands behind the server.
    pub origins: Origins,
    places: Places,
    _folder: Folder,
}

/// Texts of errors, whatever their type.
pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Ground {
    /// A new folder with `html/file.bin` of so many bytes of the pattern, and one origin with these rules.
    pub fn new(file_size: usize, rules: Vec<Rule>) -> Result<Self, String> {
        let folder = Folder::new().map_err(text)?;
        let html = folder.0.join("html");
        std::fs::create_dir(&html).map_err(text)?;
        std::fs::write(html.join("file.bin"), testkit::text::pattern(file_size)).map_err(text)?;
        let places = Places::new(&folder.0);
        let origin = OriginSpec { number: 1, door: Door::Tcp, speech: Speech::Http, rules };
        let origins = Origins::start(&[origin], &places).map_err(text)?;
        Ok(Self { server: None, origins, places, _folder: folder })
    }

    /// Writes the configuration, replacing the one before in one step.
    pub fn configure(&self, binary: &Binary, conf: &str) -> Result<(), String> {
        let conf = self.places.expand(&dress(conf, &binary.paths, &binary.events)).map_err(text)?;
        let fresh = self.places.root().join("nginx.conf.new");
        std::fs::write(&fresh, conf).map_err(text)?;
        std::fs::rename(&fresh, self.places.root().join("nginx.conf")).map_err(text)
    }

    /// Starts the server.
    pub fn start(&mut self, binary: &Binary, conf: &str) -> Result<(), String> {
        self.configure(binary, conf)?;
        self.server = Some(Server::start(binary, self.places.root()).map_err(text)?);
        Ok(())
    }

    /// Kills master and workers without a warning, and waits until they are gone.
    pub fn kill(&mut self) -> Result<(), String> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let workers = server.workers();
        for pid in std::iter::once(server.pid()).chain(workers.iter().copied()) {
            signal("KILL", pid);
        }
        server.wait(PATIENCE)?;
        for worker in workers {
            let is_gone = || Ok(std::fs::read_link(format!("/proc/{worker}/cwd")).is_err().then_some(()));
            wait_for("the end of a worker", is_gone)?;
        }
        Ok(())
    }

    /// Ends the server.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// The folder of the run.
    pub fn root(&self) -> &Path {
        self.places.root()
    }

    /// Lines of the error log that contain a text.
    pub fn lines_with(&self, word: &str) -> Vec<String> {
        let said = self.server.as_ref().map(Server::said).unwrap_or_default();
        said.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    }

    /// `127.0.0.1:port` of the server.
    pub fn address(&self) -> String {
        self.places.value("ADDR1").unwrap_or_default()
    }

    /// The master.
    pub fn master(&self) -> Result<u32, String> {
        Ok(self.server.as_ref().ok_or("the server was not started")?.pid())
    }

    /// The youngest worker, waited for if there is none.
    pub fn worker(&self) -> Result<u32, String> {
        let server = self.server.as_ref().ok_or("the server was not started")?;
        wait_for("a worker", || Ok(server.workers().last().copied()))
    }

    /// A new connection to the server.
    pub fn client(&self) -> Result<Client, String> {
        Client::connect(&self.address()).map_err(|error| format!("connect: {error}"))
    }

    /// The answer to a request on a new connection that is closed afterwards.
    pub fn once(&self, target: &str) -> Result<Message, String> {
        let mut client = self.client()?;
        ask(&mut client, target)
    }

    /// Lines of the error log at `alert` and worse, and of panics.
    pub fn grave_lines(&self) -> Vec<String> {
        let said = self.server.as_ref().map(Server::said).unwrap_or_default();
        let is_grave =
            |line: &&str| ["[alert]", "[emerg]", "panicked at"].iter().any(|word| line.contains(word));
        said.lines().filter(is_grave).map(str::to_owned).collect()
    }
}

/// Sends a GET and reads the answer.
pub fn ask(client: &mut Client, target: &str) -> Result<Message, String> {
    client.expect_answer_to("GET");
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).map_err(text)?;
    client.answer().map_err(text)
}

/// Asks again and again until there is something.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Result<Option<T>, String>) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{what}: not within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A rule for an origin: any method, any number of times, the body read first.
pub fn rule(target: &str, acts: &[ReplyAct]) -> Rule {
    Rule { method: None, target: target.to_owned(), nth: None, body: Body::Read, acts: acts.to_vec() }
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("tgendurance{}-{number}", std::process::id()));
        std::fs::create_dir(&root)?;
        // The worker may run as another user.
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self(root))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("TIDEGATE_KEEP").is_some() {
            println!("kept {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
