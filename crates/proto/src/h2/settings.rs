//! SETTINGS: what each side tells the other about itself (RFC 9113, 6.5).

use super::error::Violation;
use super::flow::MAX_WINDOW;
use super::frame::{FRAME_HEAD, Flags, Kind, push_head};

/// Window of a stream or connection that nobody has talked about.
pub const DEFAULT_WINDOW: u32 = 65_535;
/// Payload that every peer must take.
pub const DEFAULT_FRAME_SIZE: u32 = 1 << 14;
/// The largest payload that a frame can have.
pub const MAX_FRAME_SIZE: u32 = (1 << 24) - 1;
/// The largest payload that a client may send: more than any client wants. nginx says [`MAX_FRAME_SIZE`], which is far
/// more than a stream's window or a header block may hold.
pub const SERVER_FRAME_SIZE: u32 = 128 << 10;

/// One setting, as we send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Bytes of the dynamic table for header blocks sent to us.
    HeaderTableSize(u32),
    /// Whether we take pushed streams.
    EnablePush(u32),
    /// Streams that the peer may have open at once.
    MaxConcurrentStreams(u32),
    /// Window that streams begin with.
    InitialWindowSize(u32),
    /// Largest payload of a frame to us.
    MaxFrameSize(u32),
    /// `CONNECT` may name a protocol (RFC 8441).
    EnableConnectProtocol(u32),
}

impl Setting {
    fn code(self) -> (u16, u32) {
        match self {
            Self::HeaderTableSize(value) => (1, value),
            Self::EnablePush(value) => (2, value),
            Self::MaxConcurrentStreams(value) => (3, value),
            Self::InitialWindowSize(value) => (4, value),
            Self::MaxFrameSize(value) => (5, value),
            Self::EnableConnectProtocol(value) => (8, value),
        }
    }
}

/// Appends a SETTINGS frame.
pub fn push_settings(settings: &[Setting], out: &mut Vec<u8>) {
    out.reserve(FRAME_HEAD + settings.len() * 6);
    push_head(settings.len() * 6, Kind::SETTINGS, Flags::NONE, 0, out);
    for setting in settings {
        let (id, value) = setting.code();
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// What the peer has told about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Bytes of the dynamic table that it keeps for us.
    pub header_table_size: u32,
    /// Streams that we may have open at once.
    pub max_concurrent_streams: u32,
    /// Window that streams to it begin with.
    pub initial_window: u32,
    /// Largest payload of a frame to it.
    pub max_frame_size: u32,
    /// It takes `CONNECT` with a protocol.
    pub enable_connect_protocol: bool,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            header_table_size: 4096,
            max_concurrent_streams: u32::MAX,
            initial_window: DEFAULT_WINDOW,
            max_frame_size: DEFAULT_FRAME_SIZE,
            enable_connect_protocol: false,
        }
    }
}

impl PeerSettings {
    /// Takes over the payload of a frame; what is unknown is ignored.
    ///
    /// # Errors
    /// [`Violation`] for values that a setting cannot have.
    pub fn apply(&mut self, payload: &[u8]) -> Result<(), Violation> {
        for pair in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([pair[0], pair[1]]);
            let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
            match id {
                1 => self.header_table_size = value,
                2 if value > 1 => return Err(Violation::EnablePush(value)),
                3 => self.max_concurrent_streams = value,
                4 if value > MAX_WINDOW => return Err(Violation::InitialWindow(value)),
                4 => self.initial_window = value,
                5 if !(DEFAULT_FRAME_SIZE..=MAX_FRAME_SIZE).contains(&value) => {
                    return Err(Violation::MaxFrameSize(value));
                }
                5 => self.max_frame_size = value,
                8 => self.enable_connect_protocol = value == 1,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_understood() {
        let mut out = Vec::new();
        let settings = [
            Setting::HeaderTableSize(1),
            Setting::EnablePush(0),
            Setting::MaxConcurrentStreams(2),
            Setting::InitialWindowSize(3),
            Setting::MaxFrameSize(20_000),
            Setting::EnableConnectProtocol(1),
        ];
        push_settings(&settings, &mut out);
        assert_eq!(out[..FRAME_HEAD], [0, 0, 36, 4, 0, 0, 0, 0, 0]);
        let mut peer = PeerSettings::default();
        assert_eq!(peer.apply(&out[FRAME_HEAD..]), Ok(()));
        assert_eq!((peer.header_table_size, peer.max_concurrent_streams, peer.initial_window), (1, 2, 3));
        assert_eq!((peer.max_frame_size, peer.enable_connect_protocol), (20_000, true));
    }

    #[test]
    fn values_out_of_range() {
        let check = |id: u8, value: u32, expected| {
            let mut payload = vec![0, id];
            payload.extend_from_slice(&value.to_be_bytes());
            assert_eq!(PeerSettings::default().apply(&payload), expected);
        };
        check(2, 2, Err(Violation::EnablePush(2)));
        check(4, 1 << 31, Err(Violation::InitialWindow(1 << 31)));
        check(5, 16_383, Err(Violation::MaxFrameSize(16_383)));
        check(5, 1 << 24, Err(Violation::MaxFrameSize(1 << 24)));
        check(99, 7, Ok(()));
    }
}
