//! What a connection to an upstream remembers from one request to the next.

use proto::h2::hpack::{Decoder, Encoder};
use proto::h2::{
    DEFAULT_WINDOW, MAX_WINDOW, PREFACE, Receiver, Role, SendWindow, Setting, push_settings,
    push_window_update,
};

/// Most bytes of a header block.
const MAX_BLOCK: usize = 256 << 10;
/// The last number that a stream can have.
const LAST_STREAM: u32 = MAX_WINDOW - 2;

/// The state of an HTTP/2 connection to an upstream, which goes to the pool with it.
pub struct Session {
    pub(super) receiver: Receiver,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    /// Bytes of bodies that the upstream takes on the connection.
    pub(super) window: SendWindow,
    next_stream: u32,
}

impl Session {
    /// A new connection: `out` gets the preface and the settings.
    pub(super) fn begin(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        // One stream has the connection for itself, so the socket holds the upstream back and no window need do it.
        let settings =
            [Setting::HeaderTableSize(0), Setting::EnablePush(0), Setting::InitialWindowSize(MAX_WINDOW)];
        push_settings(&settings, out);
        push_window_update(0, MAX_WINDOW - DEFAULT_WINDOW, out);
        Self {
            receiver: Receiver::new(Role::Client, 1, MAX_BLOCK),
            decoder: Decoder::with_limit(0),
            encoder: Encoder::default(),
            window: SendWindow::new(DEFAULT_WINDOW),
            next_stream: 1,
        }
    }

    /// The number of another stream.
    pub(super) fn begin_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.receiver.began(stream);
        self.receiver.budget.request();
        stream
    }

    /// Whether there are numbers for another stream.
    pub(super) fn has_streams(&self) -> bool {
        self.next_stream < LAST_STREAM
    }
}
