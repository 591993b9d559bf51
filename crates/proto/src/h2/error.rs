//! Error codes, and what a peer did wrong in nginx's words.

/// An error code of RESET_STREAM and GOAWAY (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Nothing went wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1);
    /// Our own fault.
    pub const INTERNAL: Self = Self(2);
    /// The peer sent more than it may.
    pub const FLOW_CONTROL: Self = Self(3);
    /// A frame for a stream that the peer had ended.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame's length is wrong.
    pub const FRAME_SIZE: Self = Self(6);
    /// The stream was not begun, so its request may be repeated.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Nobody wants the stream any more.
    pub const CANCEL: Self = Self(8);
    /// A header block cannot be decoded; the tables differ from now on.
    pub const COMPRESSION: Self = Self(9);
    /// The peer asks for too much.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

/// What a peer did that ends the connection. It displays without its subject, as in "client sent …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each says what it is in its own message")]
pub enum Violation {
    #[error("sent too large frame: {0}")]
    FrameTooLarge(usize),
    #[error("sent padded DATA frame with incorrect length: {0}")]
    PaddedDataLength(usize),
    #[error("sent padded DATA frame with incorrect length: {0}, padding: {1}")]
    DataPadding(usize, usize),
    #[error("sent DATA frame with incorrect identifier")]
    DataStream,
    #[error("violated connection flow control: received DATA frame length {0}, available window {1}")]
    FlowControl(usize, u32),
    #[error("sent HEADERS frame with incorrect length {0}")]
    HeadersLength(usize),
    #[error("sent HEADERS frame with empty header block")]
    EmptyBlock,
    #[error("sent padded HEADERS frame with incorrect length: {0}, padding: {1}")]
    HeadersPadding(usize, usize),
    #[error("sent HEADERS frame with incorrect identifier {0}, the last was {1}")]
    HeadersStream(u32, u32),
    #[error("sent HEADERS frame for stream {0} with incorrect dependency")]
    HeadersDependency(u32),
    #[error("sent PRIORITY frame with incorrect length {0}")]
    PriorityLength(usize),
    #[error("sent PRIORITY frame with incorrect identifier")]
    PriorityStream,
    #[error("sent PRIORITY frame for stream {0} with incorrect dependency")]
    PriorityDependency(u32),
    #[error("sent too many PRIORITY frames")]
    TooManyPriorities,
    #[error("sent RST_STREAM frame with incorrect length {0}")]
    ResetLength(usize),
    #[error("sent RST_STREAM frame with incorrect identifier")]
    ResetStream,
    #[error("sent SETTINGS frame with incorrect identifier")]
    SettingsStream,
    #[error("sent SETTINGS frame with the ACK flag and nonzero length")]
    SettingsAckLength,
    #[error("sent SETTINGS frame with incorrect length {0}")]
    SettingsLength(usize),
    #[error("sent SETTINGS frame with incorrect INITIAL_WINDOW_SIZE value {0}")]
    InitialWindow(u32),
    #[error("sent SETTINGS frame with incorrect MAX_FRAME_SIZE value {0}")]
    MaxFrameSize(u32),
    #[error("sent SETTINGS frame with incorrect ENABLE_PUSH value {0}")]
    EnablePush(u32),
    #[error("sent PUSH_PROMISE frame")]
    PushPromise,
    #[error("sent PING frame with incorrect length {0}")]
    PingLength(usize),
    #[error("sent PING frame with incorrect identifier")]
    PingStream,
    #[error("sent GOAWAY frame with incorrect length {0}")]
    GoAwayLength(usize),
    #[error("sent GOAWAY frame with incorrect identifier")]
    GoAwayStream,
    #[error("sent WINDOW_UPDATE frame with incorrect length {0}")]
    WindowUpdateLength(usize),
    #[error("sent WINDOW_UPDATE frame with incorrect window increment 0")]
    ZeroIncrement,
    #[error(
        "violated connection flow control: received WINDOW_UPDATE frame with window increment {0} not allowed for \
         window {1}"
    )]
    WindowOverflow(u32, i64),
    #[error("sent inappropriate frame while CONTINUATION was expected")]
    ContinuationExpected,
    #[error("sent CONTINUATION frame with incorrect identifier")]
    ContinuationStream,
    #[error("sent unexpected CONTINUATION frame")]
    UnexpectedContinuation,
    #[error("sent too many CONTINUATION frames")]
    TooManyContinuations,
    #[error("sent header block with too long {0} value")]
    LongInteger(&'static str),
    #[error("sent header block with incorrect length")]
    BlockLength,
    #[error("sent invalid hpack table index 0")]
    IndexZero,
    #[error("sent out of bound hpack table index: {0}")]
    IndexOutOfBound(usize),
    #[error("sent invalid table size update: {0}")]
    TableSize(usize),
    #[error("sent table size update behind a header field")]
    LateTableSize,
    #[error("sent header field with too long length value")]
    LongLength,
    #[error("sent header field with incorrect length")]
    FieldLength,
    #[error("sent invalid encoded header field")]
    Huffman,
    #[error("sent zero header name length")]
    EmptyName,
    #[error("sent too large header field")]
    FieldTooLarge,
    #[error("sent too large header")]
    HeaderTooLarge,
    #[error("sent too many refused streams")]
    TooManyRefused,
    #[error("reset too many streams")]
    TooManyResets,
    #[error("sent frame of a stream that does not exist")]
    IdleStream,
    #[error("sent too many frames that carry nothing, http2 flood detected")]
    Flood,
}

impl Violation {
    /// Whether it is not what was sent that was wrong, but how much of it: what makes a flood.
    #[must_use]
    pub fn is_excess(self) -> bool {
        self.code() == ErrorCode::ENHANCE_YOUR_CALM || matches!(self, Self::TooManyRefused | Self::Flood)
    }

    /// What GOAWAY says of it, as nginx does.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::FrameTooLarge(_)
            | Self::PaddedDataLength(_)
            | Self::HeadersLength(_)
            | Self::EmptyBlock
            | Self::PriorityLength(_)
            | Self::ResetLength(_)
            | Self::SettingsAckLength
            | Self::SettingsLength(_)
            | Self::PingLength(_)
            | Self::GoAwayLength(_)
            | Self::WindowUpdateLength(_)
            | Self::BlockLength
            | Self::FieldLength => ErrorCode::FRAME_SIZE,
            Self::FlowControl(..) | Self::InitialWindow(_) | Self::WindowOverflow(..) => {
                ErrorCode::FLOW_CONTROL
            }
            Self::LongInteger(_)
            | Self::IndexZero
            | Self::IndexOutOfBound(_)
            | Self::TableSize(_)
            | Self::LateTableSize
            | Self::LongLength
            | Self::Huffman => ErrorCode::COMPRESSION,
            Self::TooManyPriorities
            | Self::TooManyContinuations
            | Self::FieldTooLarge
            | Self::HeaderTooLarge
            | Self::TooManyResets => ErrorCode::ENHANCE_YOUR_CALM,
            Self::TooManyRefused | Self::Flood => ErrorCode::NO_ERROR,
            _ => ErrorCode::PROTOCOL,
        }
    }
}
