//! The encoder of gzip: zlib-rs behind flate2, with its state kept for the next answer of the thread.
//!
//! A state is a quarter of a megabyte, and clearing it costs as much as coding a small answer: one whose length is known
//! to be small is gathered and coded by [`super::short`] instead, unless a part of it is to leave early.

use std::cell::RefCell;
use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};
use http::coding::{Encoded, Encoder, Goal};
use net::Buf;

use super::short;

/// States that one thread keeps.
const KEEP: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<(Shape, Compress)>> = const { RefCell::new(Vec::new()) };
}

/// What a state was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    level: u32,
    window_bits: u8,
}

/// Writes one gzip member.
pub(super) enum Gzip {
    Short(Short),
    Long(Deflate),
}

impl Gzip {
    /// For `gzip_comp_level`, a window of `2^window_bits` bytes, 9 to 15, and an answer of this length.
    pub fn new(level: u32, window_bits: u8, length: Option<u64>) -> Self {
        match length {
            Some(length) if length <= short::LONGEST as u64 => Self::Short(Short::new(level, window_bits)),
            _ => Self::Long(Deflate::new(level, window_bits)),
        }
    }
}

impl Encoder for Gzip {
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>, goal: Goal) -> io::Result<Encoded> {
        if let Self::Short(short) = self {
            if goal != Goal::Flush && short.text.len() + input.len() <= short::LONGEST {
                return Ok(short.encode(input, output, goal));
            }
            let mut long = Deflate::new(short.level, short.window_bits);
            long.gathered = std::mem::take(&mut short.text);
            *self = Self::Long(long);
        }
        match self {
            Self::Long(long) => long.encode(input, output, goal),
            Self::Short(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Gathers an answer and codes it at its end.
pub(super) struct Short {
    level: u32,
    window_bits: u8,
    text: Buf,
    coded: Buf,
    /// Bytes of `coded` that were put out.
    passed: usize,
}

impl Short {
    fn new(level: u32, window_bits: u8) -> Self {
        Self { level, window_bits, text: Buf::empty(), coded: Buf::empty(), passed: 0 }
    }

    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>, goal: Goal) -> Encoded {
        if self.coded.is_empty() {
            self.text.reserve(input.len());
            self.text.extend_from_slice(input);
            if goal == Goal::Continue {
                return Encoded { consumed: input.len(), is_done: true };
            }
            self.coded = Buf::with_capacity(4096);
            short::encode(&self.text, self.level, self.coded.vec());
        }
        let left = self.coded.get(self.passed..).unwrap_or_default();
        let count = left.len().min(output.capacity() - output.len());
        output.extend_from_slice(left.get(..count).unwrap_or_default());
        self.passed += count;
        // All of the input was taken by the call that coded it.
        let consumed = if self.passed == count { input.len() } else { 0 };
        Encoded { consumed, is_done: self.passed == self.coded.len() }
    }
}

/// The library at work on one answer.
pub(super) struct Deflate {
    shape: Shape,
    state: Option<Compress>,
    /// What was gathered for [`Short`] and goes in front.
    gathered: Buf,
}

impl Deflate {
    fn new(level: u32, window_bits: u8) -> Self {
        let shape = Shape { level: level_here(level), window_bits: window_bits.clamp(9, 15) };
        Self { shape, state: Some(take(shape)), gathered: Buf::empty() }
    }
}

/// The library's fastest level makes answers a sixth larger than zlib's; its second is still faster than zlib's
/// first, and its answers are smaller.
fn level_here(level: u32) -> u32 {
    level.max(2)
}

fn take(shape: Shape) -> Compress {
    let kept = FREE.with(|free| {
        let mut free = free.borrow_mut();
        let at = free.iter().rposition(|(kept, _)| *kept == shape)?;
        Some(free.swap_remove(at).1)
    });
    kept.unwrap_or_else(|| Compress::new_gzip(Compression::new(shape.level), shape.window_bits))
}

impl Drop for Deflate {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        // At thread exit the list may be gone already; then the memory is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() == KEEP {
                free.remove(0);
            }
            state.reset();
            free.push((self.shape, state));
        });
    }
}

impl Deflate {
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>, goal: Goal) -> io::Result<Encoded> {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            let encoded = self.step(&gathered, output, Goal::Continue)?;
            if !encoded.is_done {
                self.gathered.extend_from_slice(gathered.get(encoded.consumed..).unwrap_or_default());
                return Ok(Encoded { consumed: 0, is_done: false });
            }
        }
        self.step(input, output, goal)
    }

    fn step(&mut self, input: &[u8], output: &mut Vec<u8>, goal: Goal) -> io::Result<Encoded> {
        let Some(state) = &mut self.state else { return Err(io::ErrorKind::InvalidData.into()) };
        let flush = match goal {
            Goal::Continue => FlushCompress::None,
            Goal::Flush => FlushCompress::Sync,
            Goal::Finish => FlushCompress::Finish,
        };
        let before = state.total_in();
        let status = state.compress_vec(input, output, flush).map_err(io::Error::other)?;
        let consumed = usize::try_from(state.total_in() - before).unwrap_or(input.len());
        let has_room = output.len() < output.capacity();
        let is_done = match goal {
            Goal::Finish => status == Status::StreamEnd,
            // Whatever was to come out has come out when there is room for more.
            Goal::Continue | Goal::Flush => has_room && consumed == input.len(),
        };
        Ok(Encoded { consumed, is_done })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http::chunk::{Chunk, Queue};
    use http::coding::{Coding, Encode, Settings};
    use http::filters::{More, Taken};

    use super::*;

    fn gzip(pieces: &[&[u8]], more: More, settings: &Settings) -> Vec<u8> {
        coded(pieces, more, settings, None)
    }

    /// The length is what the head of the answer would say.
    fn coded(pieces: &[&[u8]], more: More, settings: &Settings, length: Option<u64>) -> Vec<u8> {
        let mut encode = Encode::new(Gzip::new(settings.level, 15, length), Coding::Gzip, settings);
        let (mut input, mut output, mut coded) = (Queue::default(), Queue::default(), Vec::new());
        let ends = pieces.iter().map(|piece| (*piece, more)).chain([(&b""[..], More::End)]);
        for (piece, more) in ends {
            input.push(Chunk::copied(piece));
            loop {
                let taken = encode.take(&mut input, &mut output, more).expect("no failure");
                while let Some(chunk) = output.pop() {
                    coded.extend_from_slice(chunk.bytes().expect("memory"));
                }
                if taken == Taken::All {
                    break;
                }
            }
        }
        coded
    }

    fn plain(coded: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(coded).read_to_end(&mut plain).expect("gzip");
        plain
    }

    #[test]
    fn any_pieces_make_the_same_text() {
        let text: Vec<u8> =
            (0..70_000u32).flat_map(|n| (n % 4999 * (n % 331) % 251).to_string().into_bytes()).collect();
        for level in [1, 3, 6, 9] {
            let settings = Settings { level, ..Settings::default() };
            for size in [1000, 4096, 65_537, text.len()] {
                let pieces: Vec<&[u8]> = text.chunks(size).collect();
                let coded = gzip(&pieces, More::Later, &settings);
                assert!(coded.len() < text.len() / 2);
                assert!(plain(&coded) == text, "level {level} size {size}");
                assert!(plain(&gzip(&pieces, More::Flush, &settings)) == text, "level {level} size {size}");
            }
        }
    }

    #[test]
    fn short_answers_are_the_same_text() {
        let text = include_bytes!("deflate.rs");
        for level in [1, 6, 9] {
            for (number, size) in [(32, 4096), (1, 60)] {
                let mut settings = Settings { level, ..Settings::default() };
                (settings.buffers.number, settings.buffers.size) = (number, size);
                for length in [0, 1, 1000, 8000] {
                    let text = &text[..length];
                    // What the head says may be wrong, too.
                    for told in [length, length / 2] {
                        for step in [length.max(1), 300, 7] {
                            let pieces: Vec<&[u8]> = text.chunks(step).collect();
                            for more in [More::Later, More::Flush] {
                                let coded = coded(&pieces, more, &settings, Some(told as u64));
                                assert!(plain(&coded) == text, "{level} {length} {told} {step} {more:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_state_used_before_leaves_no_trace() {
        let settings = Settings::default();
        let first = gzip(&[b"the first answer, the first answer"], More::Later, &settings);
        // Dropped in the middle of a body.
        let mut half = Deflate::new(1, 15);
        let mut out = Vec::with_capacity(100);
        half.encode(b"the second answer", &mut out, Goal::Continue).expect("no failure");
        drop(half);
        assert_eq!(gzip(&[b"the first answer, the first answer"], More::Later, &settings), first);
        assert_eq!(plain(&gzip(&[], More::Later, &settings)), b"");
    }
}
