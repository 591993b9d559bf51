//! Clients that ask without a pause, in threads, until they are told to stop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use testkit::client::Client;
use testkit::text::pattern;

use crate::ground::ask;

/// Bytes of the static file that clients ask for.
pub const FILE_SIZE: usize = 20_000;

/// Whether a client may lose its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    /// Any lost connection is a failure.
    Forbidden,
    /// It connects anew; only a refused connect or a wrong answer is a failure.
    Expected,
}

/// What all clients share.
#[derive(Debug)]
pub struct Load {
    address: String,
    losses: Losses,
    stop: AtomicBool,
    /// Requests answered as they should be.
    pub answered: AtomicUsize,
    /// Connections that were lost where that is allowed.
    pub lost: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// No client runs yet.
    pub fn new(address: String, losses: Losses) -> Self {
        Self {
            address,
            losses,
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            failures: Mutex::default(),
        }
    }

    /// Has all clients finish the request that they are at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Requests answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// What went wrong, at most the first of each client.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One client: asks the origin and for the file in turn, on one connection as long as it lasts.
    pub fn client(&self, number: usize) {
        let file = pattern(FILE_SIZE);
        let mut nth = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let done = self.connection(number, &mut nth, &file);
            match done {
                Ok(()) => return,
                Err(Ended::Lost(_)) if self.losses == Losses::Expected => {
                    self.lost.fetch_add(1, Ordering::SeqCst);
                }
                Err(Ended::Lost(why) | Ended::Wrong(why)) => {
                    let why = format!("client {number}, request {nth}: {why}");
                    self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(why);
                    return;
                }
            }
        }
    }

    fn connection(&self, number: usize, nth: &mut usize, file: &[u8]) -> Result<(), Ended> {
        let connected = Client::connect(&self.address);
        let mut client = connected.map_err(|error| Ended::Wrong(format!("connect: {error}")))?;
        while !self.stop.load(Ordering::SeqCst) {
            *nth += 1;
            let target = match *nth % 2 {
                0 => "/file.bin".to_owned(),
                _ => format!("/api/{number}/{nth}"),
            };
            let answer = ask(&mut client, &target).map_err(Ended::Lost)?;
            // The origin echoes the request, so an answer that belongs to another request shows itself.
            let echoed = format!("GET {target} HTTP/1.1\n");
            let is_right = match *nth % 2 {
                0 => answer.body == file,
                _ => answer.body.starts_with(echoed.as_bytes()),
            };
            if answer.status() != Some(200) || !is_right {
                let (start, length) = (&answer.start, answer.body.len());
                let lost = answer.ending == testkit::message::Ending::Truncated;
                let why = format!("{target} answered {start:?} with {length} bytes");
                return Err(if lost { Ended::Lost(why) } else { Ended::Wrong(why) });
            }
            if answer.header("Connection") == Some("close") {
                return Err(Ended::Lost(format!("{target}: the server says that it closes")));
            }
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Why a connection ended before it was told to.
enum Ended {
    Lost(String),
    Wrong(String),
}
