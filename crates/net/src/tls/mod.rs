//! TLS by rustls, behind an interface of our own: what the rest of the program knows of it is here.
//!
//! rustls does records and handshakes; how certificates are judged is ours, since nginx accepts what webpki refuses
//! and tells of a failed check instead of ending the connection.

mod chain;
mod cipher_table;
mod ciphers;
mod client;
mod crl;
mod curves;
pub mod der;
mod error;
mod hello;
mod identity;
mod key_file;
pub mod names;
pub mod ocsp;
mod p521;
pub mod pem;
mod server;
mod session;
mod sessions;
#[cfg(test)]
mod tests;
mod tickets;
mod verify;
pub mod x509;

pub use self::chain::{Purpose, Trust, TrustError, matches_host};
pub use self::ciphers::{CipherError, CipherList, name_of_cipher};
pub use self::client::{Channel, ClientConfig, ClientOptions, Offer};
pub use self::curves::{CurveList, name_of_curve};
pub use self::error::{Error, Fault, failed_call, fault};
pub use self::hello::{Begun, Hello};
pub use self::identity::{Chain, Identity, IdentityError, Key};
pub use self::server::{ClientAuth, Identities, Preference, Protocols, ServerConfig, ServerOptions};
pub use self::session::Session;
pub use self::sessions::{Clients, Context, NoSessions, SessionCache, Sessions};
pub use self::tickets::{NoTickets, TicketKeys, Tickets};
pub use self::verify::{Flaw, Verification};

/// What keeps sessions and makes tickets, by rustls' own names.
pub mod kept {
    pub use rustls::server::{ProducesTickets, StoresServerSessions};
}
