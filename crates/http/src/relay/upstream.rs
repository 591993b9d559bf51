//! An upstream of the configuration at work: its peers, and the idle connections to them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use net::Stream;
use upstream::{Group, Limits, Pool};

/// A connection to a peer, as the pool keeps it.
pub struct PeerConn {
    /// The socket, registered with the event loop of thread `owner`.
    pub stream: Stream,
    /// The worker thread that it belongs to.
    pub owner: usize,
}

impl PeerConn {
    /// Takes the socket over to this thread.
    ///
    /// # Errors
    /// The error of registering it.
    pub fn adopt(self, thread: usize) -> std::io::Result<Self> {
        if self.owner == thread {
            return Ok(self);
        }
        Ok(Self { stream: self.stream.move_here()?, owner: thread })
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

/// An upstream group or a plain address.
pub struct Upstream {
    /// The group's name or the address as written.
    pub name: Box<str>,
    /// Idle connections; `None` for plain addresses, as in nginx.
    pub keepalive: Option<KeepaliveConf>,
    /// For `hash`: what the key is made of.
    pub key: Option<crate::variables::Template>,
    group: RwLock<Arc<Group>>,
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
    pub fn new(name: &str, group: Group, keepalive: Option<KeepaliveConf>, threads: usize) -> Self {
        Self {
            name: name.into(),
            keepalive,
            key: None,
            group: RwLock::new(Arc::new(group)),
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
        tokio::task::spawn_local(async move {
            let upstream = &trimming.0;
            let limits = upstream.keepalive.map(|keepalive| keepalive.limits).unwrap_or_default();
            while upstream.pool().idle() > limits.capacity {
                net::timer::sleep(SURPLUS_MS).await;
                drop(upstream.pool().trim(&limits));
            }
        });
    }

    /// Idle connections of all threads.
    #[inline]
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool<PeerConn>> {
        self.pool.get_or_init(|| Arc::new(Pool::new(self.threads)))
    }

    /// The peers as they are now.
    #[must_use]
    pub fn group(&self) -> Arc<Group> {
        match self.group.read() {
            Ok(group) => Arc::clone(&group),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    /// Replaces the peers (names resolved anew, live changes), keeping the state of those that stay.
    pub fn replace(&self, mut group: Group) {
        let mut slot = match self.group.write() {
            Ok(slot) => slot,
            Err(poisoned) => poisoned.into_inner(),
        };
        group.adopt(&slot);
        *slot = Arc::new(group);
    }

    /// Takes the running state over from the same upstream of an earlier configuration.
    pub fn inherit(&self, earlier: &Self) {
        let mut slot = match self.group.write() {
            Ok(slot) => slot,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(group) = Arc::get_mut(&mut slot) {
            group.adopt(&earlier.group());
        }
        // A local connection belongs to a location by its number, which means another one now; and the parts of
        // threads that are no more would never be looked after.
        let is_shared = |upstream: &Self| upstream.keepalive.is_some_and(|keepalive| !keepalive.is_local);
        if is_shared(self) && is_shared(earlier) && self.threads == earlier.threads {
            let _ = self.pool.set(Arc::clone(earlier.pool()));
        }
    }
}
