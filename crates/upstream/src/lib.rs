//! Upstream groups: peers, balancers, failure counting and idle connections, for http and stream alike.
//!
//! No I/O and no clock: the caller hands in the time and the connections, so all of it runs under a fake clock.

mod attempt;
mod balance;
mod eligible;
mod group;
mod keepalive;
mod now;
mod peer;
mod server;
mod state;
#[cfg(test)]
mod testing;

pub use attempt::{Attempt, NoPeer, Notice, Outcome};
pub use balance::{Balancer, Inflight, Key, LeastTime, Metric, Ring};
pub use group::{Group, GroupError, Server};
pub use keepalive::{Keep, Limits, PeerKey, Pool, Pooled, Put, Scope};
pub use now::Now;
pub use peer::{Admin, Health, Peer, PeerAddr, PeerId, PeerUid};
pub use server::{Accepts, ParamError, Resolve, Role, ServerSpec, parse_server_params};
pub use state::PeerCounters;
