//! Closing without losing the answer: what the client still sends is read and dropped for a while.

use std::cell::Cell;

use net::Buf;

use crate::conf::core::CoreSettings;
use crate::connection::Conn;

/// Bytes that are read before the next pause, which others can wait for.
const PIECE: usize = 64 << 10;
/// Pieces that a thread reads in a millisecond, of all connections that linger: nobody wants these bytes, so whoever
/// sends them without end is not read as fast as it can send.
const PIECES: u64 = 4;

thread_local! {
    static LINGERING: Cell<u64> = const { Cell::new(0) };
}

/// One connection more that lingers, until it is dropped.
struct Lingering;

impl Lingering {
    fn new() -> Self {
        LINGERING.set(LINGERING.get() + 1);
        Self
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

/// Shuts the sending side and reads on, until the client closes too or `lingering_time` is over.
pub(super) async fn close(conn: &Conn, core: &CoreSettings) {
    if conn.stream.shut_down_sending().is_err() {
        return;
    }
    let until = net::timer::now_ms() + core.lingering_time;
    let lingering = Lingering::new();
    let mut scrap = Buf::empty();
    let mut read = 0;
    while net::timer::now_ms() < until && !conn.is_aborted.get() {
        conn.deadline.set_after(core.lingering_timeout);
        if conn.stream.readable(&conn.deadline).await.is_err() {
            return;
        }
        if scrap.capacity() == 0 {
            scrap = Buf::with_capacity(PIECE);
        }
        scrap.clear();
        match conn.stream.recv(&mut scrap, PIECE - read, &conn.deadline).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read += count,
        }
        if read >= PIECE {
            read = 0;
            net::timer::sleep(lingering.pause()).await;
        }
    }
}
