//! One event loop for the clients and the origin, on one thread.
//! Sharing the loop saves the load core a context switch per request, so it can saturate the proxy.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::clients::{Clients, Plan, Tally};
use crate::origin::Origin;

/// Tokens below belong to clients, the others to the origin.
const ORIGIN_TOKENS: usize = 1 << 32;

/// Connections opened before the loop turns; fewer than any listen queue.
const BATCH: usize = 64;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The loop, an origin and, when they have a target, clients.
pub struct Engine {
    poll: Poll,
    events: Events,
    origin: Option<Origin>,
    clients: Option<Clients>,
}

impl Engine {
    /// A loop that does nothing yet.
    ///
    /// # Errors
    /// What the system says on `epoll_create`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(1024), origin: None, clients: None })
    }

    /// Starts an origin on `address` and returns where it listens.
    ///
    /// # Errors
    /// What the system says when it cannot listen there.
    pub fn start_origin(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        let origin = Origin::listen(address, ORIGIN_TOKENS, self.poll.registry())?;
        let address = origin.address()?;
        self.origin = Some(origin);
        Ok(address)
    }

    /// Starts clients that have no connections yet.
    pub fn start_clients(&mut self, plan: Plan) {
        self.clients = Some(Clients::new(plan));
    }

    /// Opens connections in batches, waiting after each until every connection had a response.
    ///
    /// # Errors
    /// What the system says on `epoll_wait`; `TimedOut` when the answers to one batch take 10 seconds.
    pub fn open(&mut self, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            left -= batch;
            let before = self.answered();
            if let Some(clients) = &mut self.clients {
                clients.open(batch, self.poll.registry());
            }
            let patience = Instant::now() + PATIENCE;
            while self.answered() < before + batch as u64 {
                self.turn()?;
                if Instant::now() > patience {
                    return Err(late());
                }
            }
        }
        Ok(())
    }

    /// Sends no more requests and turns until every response has arrived.
    ///
    /// # Errors
    /// What the system says on `epoll_wait`; `TimedOut` when a response takes 10 seconds.
    pub fn drain(&mut self) -> io::Result<()> {
        let patience = Instant::now() + PATIENCE;
        if let Some(clients) = &mut self.clients {
            clients.pause();
        }
        while self.clients.as_ref().is_some_and(|clients| clients.awaiting() > 0) {
            self.turn()?;
            if Instant::now() > patience {
                return Err(late());
            }
        }
        if let Some(clients) = &mut self.clients {
            clients.renew_long();
        }
        Ok(())
    }

    /// Sends a request on every connection, which then go on by themselves.
    ///
    /// The loop turns between batches: requests that all start at once stay in step, and a proxy then
    /// opens more upstream connections than it keeps.
    ///
    /// # Errors
    /// What the system says on `epoll_wait`.
    pub fn resume(&mut self) -> io::Result<()> {
        let count = self.clients.as_ref().map_or(0, Clients::count);
        for first in (0..count).step_by(BATCH) {
            if let Some(clients) = &mut self.clients {
                clients.resume(first..count.min(first + BATCH), self.poll.registry());
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Turns until `deadline`.
    ///
    /// # Errors
    /// What the system says on `epoll_wait`.
    pub fn run_until(&mut self, deadline: Instant) -> io::Result<()> {
        while Instant::now() < deadline {
            self.turn()?;
        }
        Ok(())
    }

    /// Turns until `count` more requests were answered, well or not, or no connection is left.
    ///
    /// # Errors
    /// What the system says on `epoll_wait`.
    pub fn run_count(&mut self, count: u64) -> io::Result<()> {
        let end = self.answered() + count;
        while self.answered() < end && self.alive() > 0 {
            self.turn()?;
        }
        Ok(())
    }

    /// What happened to the clients until now.
    pub fn tally(&self) -> Tally {
        self.clients.as_ref().map(|clients| clients.tally().clone()).unwrap_or_default()
    }

    /// Client connections that are open.
    pub fn alive(&self) -> usize {
        self.clients.as_ref().map_or(0, Clients::alive)
    }

    /// Waits once, at most a tenth of a second, and handles what came.
    ///
    /// # Errors
    /// What the system says on `epoll_wait` or `accept`.
    pub fn turn(&mut self) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let registry = self.poll.registry();
        for event in &self.events {
            if event.token().0 >= ORIGIN_TOKENS {
                if let Some(origin) = &mut self.origin {
                    origin.handle(event.token(), registry)?;
                }
            } else if let Some(clients) = &mut self.clients {
                clients.handle(event, registry);
            }
        }
        Ok(())
    }

    fn answered(&self) -> u64 {
        self.clients.as_ref().map_or(0, |clients| clients.tally().requests + clients.tally().errors)
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in 10 seconds")
}
