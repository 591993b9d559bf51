//! Loopback ports that nobody else has, chosen at run time.
//!
//! They lie below the range from which the kernel takes ports for outgoing connections, and all have five
//! digits, so that texts which contain them have the same length in every run.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port on 127.0.0.1 on which nobody listens now and which this process was not given before.
///
/// # Errors
/// When none of the ports of the range can be bound.
pub fn free_port() -> std::io::Result<u16> {
    // Runs beside each other start at different places.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let Ok(port) = u16::try_from(FIRST + offset) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "no free port on 127.0.0.1"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ() {
        let one = super::free_port().ok();
        assert!(one.is_some());
        assert_ne!(one, super::free_port().ok());
    }
}
