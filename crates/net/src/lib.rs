//! The event loop of one worker thread, its sockets, buffers and deadlines.
//!
//! Everything here belongs to the thread that made it; nothing on the way of a request takes a lock.

mod aside;
pub mod buf;
pub mod event_loop;
pub mod resolver;
mod socket;
pub mod stream;
pub mod timer;
pub mod tls;

pub use aside::{Undone, aside};
pub use buf::Buf;
pub use event_loop::{TaskHandle, block_on, poll_turn, spawn, watch, yield_now};
pub use socket::charge;
pub use stream::Stream;
pub use timer::Deadline;
