//! The PROXY protocol header in front of a connection's first request (`listen … proxy_protocol`).

use std::rc::Rc;

use os::errlog::Level;
use proto::haproxy::ProxyError;

use crate::connection::{Conn, ProxyInfo};
use crate::cycle::Worker;

/// Reads the header where the listener wants one; says whether the connection may go on.
pub(super) async fn read(worker: &Worker, conn: &Rc<Conn>) -> bool {
    if conn.proxy.get().is_some() || conn.requests.get() > 0 {
        return true;
    }
    let cycle = worker.cycle();
    let Some(listener) = conn.listener_in(&cycle).and_then(|index| cycle.http.listeners.get(index)) else {
        return true;
    };
    let local = if listener.needs_local_address() { conn.local_ip() } else { None };
    if !listener.address(local).options.proxy_protocol {
        return true;
    }
    match take(conn).await {
        Heard::Header => true,
        Heard::Gone | Heard::TimedOut => false,
        Heard::Broken(why) => {
            conn.log(&cycle, Level::Error, format_args!("{why} while reading PROXY protocol"));
            false
        }
    }
}

/// What came of reading a header.
pub enum Heard {
    /// It was read, and is known to the connection from now on.
    Header,
    /// The client went away.
    Gone,
    /// The connection's deadline has passed.
    TimedOut,
    /// It is none: nginx's sentence.
    Broken(String),
}

/// Reads the header; what follows it is left to the connection.
pub async fn take(conn: &Conn) -> Heard {
    let mut buf = conn.take_leftover();
    loop {
        match proto::haproxy::parse(&buf) {
            Ok(None) if buf.len() < 4096 => {}
            Ok(Some(header)) => {
                if let Some((source, destination)) = header.addresses.clone() {
                    let _ = conn.proxy.set(Box::new(ProxyInfo { source, destination, tlvs: header.tlvs }));
                }
                buf.drain(..header.length);
                conn.keep_leftover(buf);
                return Heard::Header;
            }
            Ok(None) => return Heard::Broken(ProxyError::TooLarge.to_string()),
            Err(why) => return Heard::Broken(why.to_string()),
        }
        buf.reserve(4096);
        match conn.stream.recv(&mut buf, 4096, &conn.deadline).await {
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Heard::TimedOut,
            Ok(0) | Err(_) => return Heard::Gone,
        }
    }
}
