//! `stream`: connections, and datagrams, that are passed on as they are.
//!
//! It stands on `http`, whose settings, variables, upstreams, listeners and TLS are those of a session too; what a
//! session does of its own is here. Start reading at [`session`].

mod core;
mod datagrams;
mod pass;
mod proxy;
mod pump;
mod return_text;
mod session;
mod set;
mod ssl_preread;
mod udp;

use http::Registry;

pub use self::session::serve;
pub use self::udp::Receivers;

/// Adds the modules of `stream` to those that are there.
pub fn add(registry: &mut Registry) {
    registry.add::<core::Core>();
    registry.add::<set::Set>();
    registry.add::<ssl_preread::SslPreread>();
    registry.add::<proxy::Proxy>();
    registry.add::<return_text::ReturnText>();
    registry.add::<pass::PassOn>();
}
