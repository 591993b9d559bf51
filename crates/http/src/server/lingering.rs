//! Closing without losing the answer: what the client still sends is read and dropped for a while.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Mutex;

use crate::conf::core::CoreSettings;
use crate::connection::Conn;

/// Bytes that are read before the next pause, which others can wait for.
const PIECE: usize = 64 << 10;
/// Pieces that a thread reads in a millisecond, of all connections that linger: nobody wants these bytes, so whoever
/// sends them without end is not read as fast as it can send.
const PIECES: u64 = 4;

/// Connections of a thread that linger at once. In a flood the next ones are closed, as those of a client that has gone.
const MOST: u64 = 64;

/// Milliseconds that a client is kept which asked for more than it may, so that it does not begin anew as fast as it can.
const HOLD_MS: u64 = 100;

thread_local! {
    static LINGERING: Cell<u64> = const { Cell::new(0) };
    /// Held by the one that reads, until others than those who linger have had their turn.
    static TURN: Rc<Mutex<()>> = Rc::default();
}

/// One connection more that lingers, until it is dropped.
struct Lingering;

impl Lingering {
    fn new() -> Option<Self> {
        let others = LINGERING.get();
        (others < MOST).then(|| {
            LINGERING.set(others + 1);
            Self
        })
    }

    /// Milliseconds between two pieces of one connection.
    fn pause(&self) -> u64 {
        LINGERING.get().div_ceil(PIECES)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        LINGERING.set(LINGERING.get().saturating_sub(1));
    }
}

/// Keeps a connection that is over for a moment, as far as not too many are kept.
pub(super) async fn hold() {
    if let Some(_lingering) = Lingering::new() {
        net::timer::sleep(HOLD_MS).await;
    }
}

/// Shuts the sending side and reads on, until the client closes too or `lingering_time` is over.
pub(super) async fn close(conn: &Conn, core: &CoreSettings) {
    if conn.stream.shut_down_sending().is_err() {
        return;
    }
    let Some(lingering) = Lingering::new() else { return };
    let until = net::timer::now_ms() + core.lingering_time;
    let mut read = 0;
    while net::timer::now_ms() < until && !conn.is_aborted.get() {
        conn.deadline.set_after(core.lingering_timeout);
        if conn.stream.arrived(&conn.deadline).await.is_err() {
            return;
        }
        let turn = TURN.with(Rc::clone);
        let turn = turn.lock().await;
        match conn.stream.discard(PIECE - read) {
            Ok(Some(0)) | Err(_) => return,
            Ok(count) => read += count.unwrap_or(0),
        }
        net::yield_now().await;
        drop(turn);
        if read >= PIECE {
            read = 0;
            net::timer::sleep(lingering.pause()).await;
        }
    }
}
