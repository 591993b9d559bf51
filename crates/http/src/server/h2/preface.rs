//! Whether a connection begins with the preface of HTTP/2: in clear text it may, under TLS it must where HTTP/2 was
//! agreed on (`ngx_http_wait_request_handler`).

use net::Buf;
use os::errlog::Level;
use proto::h2::PREFACE;

use super::Http2;
use crate::connection::Conn;
use crate::cycle::Cycle;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preface {
    /// HTTP/1: what came is kept for its driver.
    Http1,
    /// HTTP/2: what came behind the preface is kept.
    Http2,
    /// Nothing more will come.
    Closed,
}

/// Reads the first bytes of a connection that may speak HTTP/2.
pub(crate) async fn read(cycle: &Cycle, conn: &Conn) -> Preface {
    if conn.requests.get() > 0 {
        return Preface::Http1;
    }
    let is_agreed = conn.stream.tls().is_some_and(|session| session.is_h2());
    if !is_agreed && (conn.is_tls() || !is_enabled(cycle, conn)) {
        return Preface::Http1;
    }
    let mut buf = conn.take_leftover();
    loop {
        let seen = buf.len().min(PREFACE.len());
        if buf[..seen] != PREFACE[..seen] {
            if is_agreed {
                conn.log(cycle, Level::Info, format_args!("invalid connection preface"));
                return Preface::Closed;
            }
            conn.keep_leftover(buf);
            return Preface::Http1;
        }
        if seen == PREFACE.len() {
            buf.drain(..seen);
            conn.keep_leftover(buf);
            return Preface::Http2;
        }
        if buf.capacity() == 0 {
            buf = Buf::with_capacity(4096);
        }
        let room = buf.capacity() - buf.len();
        if !matches!(conn.stream.recv(&mut buf, room, &conn.deadline).await, Ok(1..)) {
            if buf.is_empty() || is_agreed {
                return Preface::Closed;
            }
            // Somebody who stops in the middle is told what HTTP/1 says to that.
            conn.keep_leftover(buf);
            return Preface::Http1;
        }
    }
}

/// `http2 on` of the default server, or the `http2` parameter of `listen`.
fn is_enabled(cycle: &Cycle, conn: &Conn) -> bool {
    let Some(listener) = conn.listener_in(cycle).and_then(|index| cycle.http.listeners.get(index)) else {
        return false;
    };
    let local = if listener.needs_local_address() { conn.local_ip() } else { None };
    let address = listener.address(local);
    let root = cycle.http.server(address.default_server).root;
    // A plain request on a TLS socket is only told so.
    !address.options.ssl && (address.options.http2 || cycle.http.location(root).settings::<Http2>().enable)
}
