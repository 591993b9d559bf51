//! Sockets, buffers and deadlines of one worker thread.
//!
//! Everything here belongs to the thread that made it; nothing on the way of a request takes a lock.

mod aside;
pub mod buf;
pub mod resolver;
mod socket;
pub mod stream;
pub mod timer;
pub mod tls;
pub mod watch;

pub use aside::{Undone, aside};
pub use buf::Buf;
pub use socket::{charge, poll_turn};
pub use stream::Stream;
pub use timer::Deadline;
