//! The program around the engine: command line, configuration, master, worker, reload.
//!
//! What serves requests stands behind [`engine::Engine`]; nothing here knows HTTP.

mod bundle;
mod cli;
pub mod core_conf;
mod crash;
mod demo;
mod directives;
pub mod engine;
mod first_fault;
pub mod http_engine;
mod load;
mod master;
mod messages;
mod new_binary;
mod paths;
mod pid_file;
pub mod placeholder;
mod pool;
mod reporter;
mod signaller;
mod single;
mod start;
mod system;
mod test_mode;
mod version;
mod wire;
mod worker;

pub use base::Network;
pub use paths::Paths;
pub use start::run;
