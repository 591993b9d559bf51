//! The tools that scenarios are run with: a scripted client, scripted origins, the server under test.
//!
//! Everything is blocking and runs in threads, so that a fault of the server's own runtime cannot hide here.

pub mod client;
pub mod dates;
pub mod h2;
pub mod message;
pub mod origin;
pub mod places;
pub mod ports;
pub mod prelude;
pub mod process;
pub mod run;
pub mod script;
pub mod suite;
pub mod text;
pub mod tls;
pub mod transcript;
