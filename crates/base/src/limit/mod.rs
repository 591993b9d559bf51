//! Limits that hold for the whole server: rates of requests and numbers of connections, by key.
//!
//! All threads share a table. It is cut into shards by the hash of the key, each with a lock of its own that is
//! held for some tens of nanoseconds, and bounded as a whole by the bytes that nginx would take for it.

mod connections;
mod requests;
mod shards;
mod slab;

pub use self::connections::{ConnectionTable, Entered, Held};
pub use self::requests::{Accounting, Asked, Limit, Pin, RequestTable};
pub use self::slab::entries_of_zone;
