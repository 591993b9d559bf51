//! HTTP/2 (RFC 9113) and HPACK (RFC 7541) for both roles: bytes in, events out.
//!
//! Nothing here knows a stream's content or a clock. What a peer may make us keep is bounded here: header blocks,
//! the dynamic table, and frames that ask for work and carry nothing.

mod budget;
mod error;
mod flow;
mod frame;
pub mod hpack;
mod priority;
mod receiver;
mod request;
mod settings;

pub use budget::Budget;
pub use error::{ErrorCode, Violation};
pub use flow::{MAX_WINDOW, ReceiveWindow, SendWindow, WindowOverflow};
pub use frame::{
    FRAME_HEAD, Flags, FrameHead, Kind, push_data_head, push_goaway, push_headers, push_ping, push_reset,
    push_settings_ack, push_window_update,
};
pub use priority::{Dependency, Priorities, Urgency};
pub use receiver::{Event, HeadersFrame, Receiver, Role, Step};
pub use request::{Refusal, RequestReader, is_trailer};
pub use settings::{
    DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, MAX_FRAME_SIZE, PeerSettings, SERVER_FRAME_SIZE, Setting,
    push_settings,
};

/// What a client sends first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
