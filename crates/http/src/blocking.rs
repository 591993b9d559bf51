//! Work that takes so long that the event loop must not wait for it, such as hashing a password.
//!
//! A few threads for the whole process do it, made when there is work and gone when there is none. What waits is
//! bounded, and work that nobody waits for any more is left out.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// Pieces of work that wait at most.
const QUEUE_MAX: usize = 1024;
/// Threads at most, where there are so many processors.
const THREADS_MAX: usize = 8;
/// How long a thread waits for more to do.
const IDLE: Duration = Duration::from_secs(10);

/// Why a piece of work has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// Too much waits already, or no thread could be made.
    #[error("too much work waits already")]
    Refused,
    /// It has panicked.
    #[error("the work failed")]
    Failed,
}

type Work = Box<dyn FnOnce() + Send>;

struct Pool {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { queue: VecDeque::new(), threads: 0, idle: 0 });
static WORK: Condvar = Condvar::new();

/// Runs `work` on another thread and waits for its result. Dropping the future before `work` has begun leaves it
/// out.
///
/// # Errors
/// See [`Undone`].
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Undone> {
    let (give, take) = oneshot::channel();
    submit(Box::new(move || {
        if !give.is_closed() {
            let _ = give.send(work());
        }
    }))?;
    take.await.map_err(|_| Undone::Failed)
}

fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn submit(work: Work) -> Result<(), Undone> {
    let mut pool = lock();
    if pool.queue.len() >= QUEUE_MAX {
        return Err(Undone::Refused);
    }
    if pool.idle <= pool.queue.len() && pool.threads < threads_max() {
        let made = thread::Builder::new().name("blocking".into()).spawn(serve);
        match made {
            Ok(_) => pool.threads += 1,
            Err(_) if pool.threads == 0 => return Err(Undone::Refused),
            Err(_) => {}
        }
    }
    pool.queue.push_back(work);
    drop(pool);
    WORK.notify_one();
    Ok(())
}

fn threads_max() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// Counts the thread out, also when a piece of work panics.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        lock().threads -= 1;
    }
}

fn serve() {
    let _leave = Leave;
    let mut pool = lock();
    loop {
        if let Some(work) = pool.queue.pop_front() {
            drop(pool);
            work();
            pool = lock();
            continue;
        }
        pool.idle += 1;
        let (woken, waited) = WORK.wait_timeout(pool, IDLE).unwrap_or_else(PoisonError::into_inner);
        pool = woken;
        pool.idle -= 1;
        if waited.timed_out() && pool.queue.is_empty() {
            drop(pool);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use net::block_on as wait;

    #[test]
    fn work_is_done_elsewhere() {
        let here = thread::current().id();
        let there = wait(run(|| thread::current().id()));
        assert!(there.is_ok_and(|there| there != here));
    }

    #[test]
    fn work_may_fail_without_harm() {
        assert_eq!(wait(run(|| -> u32 { panic!("on purpose") })), Err(Undone::Failed));
        for number in 0..100 {
            assert_eq!(wait(run(move || number)), Ok(number));
        }
        assert!(lock().threads <= threads_max());
    }
}
