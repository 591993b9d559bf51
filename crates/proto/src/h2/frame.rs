//! Frames: the nine bytes in front of each, and those that we write (RFC 9113, 4.1 and 6).

use super::error::ErrorCode;

/// Bytes in front of a frame's payload.
pub const FRAME_HEAD: usize = 9;

/// The type of a frame; any byte can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u8);

#[expect(missing_docs, reason = "the names are the RFC's")]
impl Kind {
    pub const DATA: Self = Self(0);
    pub const HEADERS: Self = Self(1);
    pub const PRIORITY: Self = Self(2);
    pub const RST_STREAM: Self = Self(3);
    pub const SETTINGS: Self = Self(4);
    pub const PUSH_PROMISE: Self = Self(5);
    pub const PING: Self = Self(6);
    pub const GOAWAY: Self = Self(7);
    pub const WINDOW_UPDATE: Self = Self(8);
    pub const CONTINUATION: Self = Self(9);
}

/// The flags of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// SETTINGS and PING: this confirms the peer's.
    pub const ACK: Self = Self(1);
    /// DATA and HEADERS: nothing follows on the stream.
    pub const END_STREAM: Self = Self(1);
    /// HEADERS and CONTINUATION: the block ends here.
    pub const END_HEADERS: Self = Self(4);
    /// DATA and HEADERS: the payload is padded.
    pub const PADDED: Self = Self(8);
    /// HEADERS: a dependency stands in front of the block.
    pub const PRIORITY: Self = Self(32);

    /// Whether all flags of `other` are set.
    #[inline]
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub length: usize,
    /// What it is.
    pub kind: Kind,
    /// Its flags.
    pub flags: Flags,
    /// The stream that it belongs to; 0: the connection.
    pub stream: u32,
}

impl FrameHead {
    /// Reads a head, where one is there as a whole.
    #[inline]
    #[must_use]
    pub fn read(input: &[u8]) -> Option<Self> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *input.first_chunk::<FRAME_HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind: Kind(kind),
            flags: Flags(flags),
            // The highest bit is reserved (RFC 9113, 4.1).
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        })
    }
}

/// Appends a frame's head.
#[inline]
pub(super) fn push_head(length: usize, kind: Kind, flags: Flags, stream: u32, out: &mut Vec<u8>) {
    let [_, l0, l1, l2] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[l0, l1, l2, kind.0, flags.0, s0, s1, s2, s3]);
}

/// Appends the head of a DATA frame; its payload must follow.
#[inline]
pub fn push_data_head(stream: u32, length: usize, flags: Flags, out: &mut Vec<u8>) {
    push_head(length, Kind::DATA, flags, stream, out);
}

/// Appends a header block that lies at the end of `out`, behind a gap of [`FRAME_HEAD`] bytes at `start`, as a
/// HEADERS frame and as many CONTINUATION frames as `frame_size` asks for.
pub fn push_headers(stream: u32, flags: Flags, frame_size: usize, start: usize, out: &mut Vec<u8>) {
    let block = out.len().saturating_sub(start + FRAME_HEAD);
    let frame_size = frame_size.max(1);
    let first = block.min(frame_size);
    let is_whole = first == block;
    let first_flags = if is_whole { flags.or(Flags::END_HEADERS) } else { flags };
    let mut head = Vec::with_capacity(FRAME_HEAD);
    push_head(first, Kind::HEADERS, first_flags, stream, &mut head);
    if let Some(gap) = out.get_mut(start..start + FRAME_HEAD) {
        gap.copy_from_slice(&head);
    }
    if is_whole {
        return;
    }
    let rest = out.split_off(start + FRAME_HEAD + first);
    let mut pieces = rest.chunks(frame_size).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { Flags::END_HEADERS } else { Flags::NONE };
        push_head(piece.len(), Kind::CONTINUATION, flags, stream, out);
        out.extend_from_slice(piece);
    }
}

/// Appends a RST_STREAM frame.
pub fn push_reset(stream: u32, code: ErrorCode, out: &mut Vec<u8>) {
    push_head(4, Kind::RST_STREAM, Flags::NONE, stream, out);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends the confirmation of the peer's SETTINGS.
pub fn push_settings_ack(out: &mut Vec<u8>) {
    push_head(0, Kind::SETTINGS, Flags::ACK, 0, out);
}

/// Appends a PING frame.
pub fn push_ping(flags: Flags, payload: [u8; 8], out: &mut Vec<u8>) {
    push_head(8, Kind::PING, flags, 0, out);
    out.extend_from_slice(&payload);
}

/// Appends a GOAWAY frame: streams above `last` were not and will not be looked at.
pub fn push_goaway(last: u32, code: ErrorCode, out: &mut Vec<u8>) {
    push_head(8, Kind::GOAWAY, Flags::NONE, 0, out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends a WINDOW_UPDATE frame.
pub fn push_window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    push_head(4, Kind::WINDOW_UPDATE, Flags::NONE, stream, out);
    out.extend_from_slice(&increment.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive() {
        let mut out = Vec::new();
        push_head(0x01_02_03, Kind::GOAWAY, Flags(5), 0x7fff_ffff, &mut out);
        let head = FrameHead::read(&out).expect("a head");
        assert_eq!(
            (head.length, head.kind, head.flags, head.stream),
            (0x01_02_03, Kind::GOAWAY, Flags(5), 0x7fff_ffff)
        );
        assert_eq!(FrameHead::read(&out[..8]), None);
        out[5] = 0xff;
        assert_eq!(FrameHead::read(&out).map(|head| head.stream), Some(0x7fff_ffff));
    }

    #[test]
    fn a_long_block_goes_on_in_further_frames() {
        let mut out = vec![1, 2];
        out.extend_from_slice(&[0; FRAME_HEAD]);
        out.extend_from_slice(b"abcdefg");
        push_headers(3, Flags::END_STREAM, 3, 2, &mut out);
        let mut expected = vec![1, 2];
        push_head(3, Kind::HEADERS, Flags::END_STREAM, 3, &mut expected);
        expected.extend_from_slice(b"abc");
        push_head(3, Kind::CONTINUATION, Flags::NONE, 3, &mut expected);
        expected.extend_from_slice(b"def");
        push_head(1, Kind::CONTINUATION, Flags::END_HEADERS, 3, &mut expected);
        expected.extend_from_slice(b"g");
        assert_eq!(out, expected);
    }
}
