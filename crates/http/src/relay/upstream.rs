//! An upstream of the configuration at work: its peers, and the idle connections to them.
//!
//! What runs of it is one for the whole server and goes on through a reload, found again by its name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use net::Stream;
use tokio::sync::watch;
use upstream::{Attempt, Group, Limits, Live, Pool};

use super::http2::Session;
use super::queue::Queue;
use super::state_file::StateFile;
use super::sticky::Sticky;
use crate::resolver::ResolverConf;

/// A connection to a peer, as the pool keeps it.
pub struct PeerConn {
    /// The socket, registered with the event loop of thread `owner`.
    pub stream: Stream,
    /// The worker thread that it belongs to.
    pub owner: usize,
    /// What HTTP/2 remembers of it.
    pub session: Option<Box<Session>>,
}

impl PeerConn {
    /// Takes the socket over to this thread.
    ///
    /// # Errors
    /// The error of registering it.
    pub fn adopt(self, thread: usize) -> std::io::Result<Self> {
        Ok(Self { stream: self.stream.move_here()?, owner: thread, session: self.session })
    }
}

/// How idle connections to an upstream are kept.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveConf {
    /// How many, how long, for how many requests; a capacity of zero keeps none.
    pub limits: Limits,
    /// Only the location that opened a connection uses it again (`local`).
    pub is_local: bool,
}

/// What `least_time` measures besides the whole of a session or an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadMoment {
    /// The head of the answer; in `stream` its first byte (`first_byte`).
    #[default]
    FirstByte,
    /// In `stream` that the peer is connected to (`connect`).
    Connected,
}

/// Who knows the addresses of names.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// Name servers; none where the system's are to be asked.
    pub resolver: Option<Arc<ResolverConf>>,
    /// Longest time of a lookup, milliseconds.
    pub timeout_ms: u64,
}

/// An upstream group or a plain address.
pub struct Upstream {
    /// The group's name or the address as written.
    pub name: Box<str>,
    /// Idle connections; `None` for plain addresses, as in nginx.
    pub keepalive: Option<KeepaliveConf>,
    /// For `hash`: what the key is made of.
    pub key: Option<crate::variables::Template>,
    /// What `least_time` measures.
    pub head_moment: HeadMoment,
    /// `zone`: the group may be changed and looked at while running, and what passes is counted.
    pub zone: Option<Box<str>>,
    /// `state`: where changes are kept.
    pub state: Option<StateFile>,
    /// `sticky`.
    pub sticky: Option<Sticky>,
    /// `queue`: requests wait for a peer.
    pub queue: Option<Arc<Queue>>,
    /// Who knows the addresses of the servers' names.
    pub naming: Naming,
    /// The peers.
    pub live: Live,
    /// Counts how often servers were added or removed, for those who look after them.
    pub changed: watch::Sender<u64>,
    threads: usize,
    /// Made when it is first needed, unless the configuration before left its own.
    pool: OnceLock<Arc<Pool<PeerConn>>>,
    /// Somebody looks after what the pool holds beyond its limit.
    is_trimming: AtomicBool,
}

/// The task that trims a pool; its thread may end before it does.
struct Trimming(Arc<Upstream>);

impl Drop for Trimming {
    fn drop(&mut self) {
        self.0.is_trimming.store(false, Ordering::Relaxed);
    }
}

/// Milliseconds that an idle connection beyond the limit has for being needed again.
const SURPLUS_MS: u64 = 20;

impl Upstream {
    /// An upstream of these peers for so many worker threads.
    #[must_use]
    pub fn new(name: &str, live: Live, keepalive: Option<KeepaliveConf>, threads: usize) -> Self {
        Self {
            name: name.into(),
            keepalive,
            key: None,
            head_moment: HeadMoment::default(),
            zone: None,
            state: None,
            sticky: None,
            queue: None,
            naming: Naming::default(),
            live,
            changed: watch::Sender::new(0),
            threads: threads.max(1),
            pool: OnceLock::new(),
            is_trimming: AtomicBool::new(false),
        }
    }

    /// Closes what the pool holds beyond its limit, unless it is needed again at once.
    pub(super) fn trim_soon(self: &Arc<Self>) {
        if self.is_trimming.swap(true, Ordering::Relaxed) {
            return;
        }
        let trimming = Trimming(Arc::clone(self));
        net::spawn(async move {
            let upstream = &trimming.0;
            let limits = upstream.keepalive.map(|keepalive| keepalive.limits).unwrap_or_default();
            while upstream.pool().idle() > limits.capacity {
                net::timer::sleep(SURPLUS_MS).await;
                drop(upstream.pool().trim(&limits));
            }
        });
    }

    /// Whether requests of a protocol that can share a connection do: where idle ones are kept for the whole group.
    #[must_use]
    pub fn shares(&self) -> bool {
        self.keepalive.is_some_and(|keepalive| !keepalive.is_local && keepalive.limits.capacity > 0)
    }

    /// Idle connections of all threads.
    #[inline]
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool<PeerConn>> {
        self.pool.get_or_init(|| Arc::new(Pool::new(self.threads)))
    }

    /// The peers as they are now.
    #[inline]
    #[must_use]
    pub fn group(&self) -> Arc<Group> {
        self.live.group()
    }

    /// Begins the attempts of one request at the peers as they are now.
    #[inline]
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.live.attempt()
    }

    /// Takes the running state over from the same upstream of an earlier configuration.
    pub fn inherit(&self, earlier: &Self) {
        self.live.inherit(&earlier.live, super::now());
        // A local connection belongs to a location by its number, which means another one now; and the parts of
        // threads that are no more would never be looked after.
        let is_shared = |upstream: &Self| upstream.keepalive.is_some_and(|keepalive| !keepalive.is_local);
        if is_shared(self) && is_shared(earlier) && self.threads == earlier.threads {
            let _ = self.pool.set(Arc::clone(earlier.pool()));
        }
    }
}
