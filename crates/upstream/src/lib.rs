//! Upstream groups: peers, balancers, failure counting and idle connections, for http and stream alike.
//!
//! No I/O and no clock: the caller hands in the time and the connections, so all of it runs under a fake clock.

mod attempt;
mod balance;
mod eject;
mod eligible;
mod group;
mod keepalive;
mod live;
mod now;
mod peer;
mod server;
mod sessions;
mod state;
#[cfg(test)]
mod testing;

pub use attempt::{Attempt, NoPeer, Notice, Outcome};
pub use balance::{Balancer, Inflight, Key, LeastTime, Metric, Ring};
pub use eject::Eject;
pub use group::{Group, GroupError, Member, Named, Origin, Policy, Server, Sessions};
pub use keepalive::{Keep, Limits, PeerKey, Pool, Pooled, Put, Scope};
pub use live::{Checked, Edit, Live};
pub use now::Now;
pub use os::socket::PeerAddr;
pub use peer::{Admin, CheckVerdict, Health, Peer, PeerId, PeerUid, addr_name};
pub use server::{Accepts, ParamError, Resolve, Role, ServerSpec, parse_server_params};
pub use sessions::{Create, Learnt, SessionTable};
pub use state::PeerCounters;
