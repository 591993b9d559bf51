//! Rare work that takes so long that the event loop must not wait for it.
//!
//! A thread is made for it and none is kept: of a process with one thread the kernel asks less for each call.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Why work has no result.
#[derive(Debug, thiserror::Error)]
pub enum Undone {
    /// No thread could be made: it was not begun.
    #[error("{0}")]
    NotBegun(io::Error),
    /// It has panicked.
    #[error("the work failed")]
    Failed,
}

/// Does `work` on a thread called `name` (15 bytes of it show) and waits for the result. It is done to its end even if
/// nobody waits any more.
///
/// # Errors
/// See [`Undone`].
pub async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Undone> {
    let (give, take) = oneshot::channel();
    let work = move || {
        let _ = give.send(work());
    };
    thread::Builder::new().name(name.into()).spawn(work).map_err(Undone::NotBegun)?;
    take.await.map_err(|_| Undone::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_has_a_thread_and_a_result() {
        crate::event_loop::block_on(async {
            let here = thread::current().id();
            let there = aside("work", || thread::current().id()).await.expect("a result");
            assert_ne!(here, there);
            let failed = aside("work", || assert_eq!(1, 2, "as it should")).await;
            assert!(matches!(failed, Err(Undone::Failed)));
        });
    }
}
