//! Closing without losing the answer: what the client still sends is read and dropped for a while.

use net::Buf;

use crate::conf::core::CoreSettings;
use crate::connection::Conn;

/// Bytes that a read asks for.
const PIECE: usize = 64 << 10;
/// Milliseconds before the next one where that was not all: nobody wants these bytes, so whoever sends them without end
/// is not read as fast as it can send.
const PAUSE_MS: u64 = 1;

/// Shuts the sending side and reads on, until the client closes too or `lingering_time` is over.
pub(super) async fn close(conn: &Conn, core: &CoreSettings) {
    if conn.stream.shut_down_sending().is_err() {
        return;
    }
    let until = net::timer::now_ms() + core.lingering_time;
    let mut scrap = Buf::empty();
    while net::timer::now_ms() < until && !conn.is_aborted.get() {
        conn.deadline.set_after(core.lingering_timeout);
        if conn.stream.readable(&conn.deadline).await.is_err() {
            return;
        }
        if scrap.capacity() == 0 {
            scrap = Buf::with_capacity(PIECE);
        }
        scrap.clear();
        match conn.stream.recv(&mut scrap, PIECE, &conn.deadline).await {
            Ok(PIECE) => net::timer::sleep(PAUSE_MS).await,
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}
