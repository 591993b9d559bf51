//! The store behind `proxy_cache` and its like: an index in memory, bodies on disk, hot ones in memory too.
//!
//! It knows keys and bytes; what they mean, whether an answer may be stored and whether one is fresh is the
//! business of others (`ngx_http_file_cache.c`, without HTTP).

mod counters;
mod filling;
mod index;
mod keeper;
mod key;
mod marks;
mod options;
mod purge;
mod record;
mod stored;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod writer;
mod zone;

pub use self::counters::{Count, Counters, Status};
pub use self::filling::{Filling, Lease, Phase, Piece, Progress, Source};
pub use self::keeper::Keeper;
pub use self::key::{Key, Levels};
pub use self::marks::{Mode, Purge, Ticket};
pub use self::options::{Options, Pace};
pub use self::purge::{PurgeError, Purged};
pub use self::record::{Damage, Meta};
pub use self::stored::{Body, Note, Spoiled, Stored, Unverified};
pub use self::writer::{Draft, Follow, TempDir, Writer};
pub use self::zone::{Ask, Found, Locked, Trouble, Zone};
