//! The body filter that codes answers, for any encoder.
//!
//! What the encoder made waits until a buffer is full, so that a body which trickles in does not leave in dribbles;
//! a flush and the end empty it.

use std::io;

use net::Buf;

use super::{Coding, Settings};
use crate::chunk::{Chunk, Queue};
use crate::filters::{BodyFilter, ENOUGH, More, Taken};
use crate::request::Request;

/// Most bytes that one buffer of coded output has.
const BUFFER_MAX: u64 = 16 << 10;

/// What an encoder is to do with its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Take it in.
    Continue,
    /// Take it in and put out all that was taken in so far.
    Flush,
    /// Take it in and put out all, to the end of the coding.
    Finish,
}

/// How far an encoder came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of the input that were taken in.
    pub consumed: usize,
    /// The goal is reached; otherwise room for output is missing.
    pub is_done: bool,
}

/// Codes a stream of bytes.
pub trait Encoder {
    /// Takes from `input` and appends to `output`, no more than its capacity holds.
    ///
    /// # Errors
    /// When the encoder cannot go on; nothing that came from outside leads there.
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>, goal: Goal) -> io::Result<Encoded>;
}

/// How much smaller an answer became, for `$gzip_ratio` and its likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Its coding.
    pub coding: Coding,
    /// Bytes before.
    pub plain: u64,
    /// Bytes after.
    pub coded: u64,
}

/// The value of `$gzip_ratio` and its likes: known once an answer was coded as a whole.
pub fn ratio(r: &Request, coding: Coding, out: &mut Vec<u8>) -> bool {
    let Some(ratio) = r.contexts.get::<Ratio>().filter(|ratio| ratio.coding == coding) else { return false };
    ratio.write(out)
}

impl Ratio {
    /// Two decimals, rounded.
    fn write(&self, out: &mut Vec<u8>) -> bool {
        if self.coded == 0 {
            return false;
        }
        let thousandths = u128::from(self.plain) * 1000 / u128::from(self.coded);
        let hundredths = (thousandths + 5) / 10;
        out.extend_from_slice(format!("{}.{:02}", hundredths / 100, hundredths % 100).as_bytes());
        true
    }
}

/// Codes a body.
pub struct Encode<E> {
    encoder: E,
    coding: Coding,
    /// What was coded and waits for the buffer to be full.
    ready: Buf,
    buffer_size: usize,
    unbuffered: bool,
    /// Gathers until there are so many bytes.
    postponed: u64,
    gathered: Queue,
    plain: u64,
    coded: u64,
    /// Something was taken in since the last flush.
    is_dirty: bool,
    is_finished: bool,
}

impl<E: Encoder> Encode<E> {
    /// A filter for one body.
    #[must_use]
    pub fn new(encoder: E, coding: Coding, settings: &Settings) -> Self {
        let memory = settings.buffers.number.saturating_mul(settings.buffers.size);
        let buffer_size = memory.min(BUFFER_MAX).max(settings.buffers.size.min(1 << 20));
        Self {
            encoder,
            coding,
            ready: Buf::empty(),
            buffer_size: usize::try_from(buffer_size).unwrap_or(4096),
            unbuffered: settings.unbuffered,
            postponed: settings.postponed,
            gathered: Queue::default(),
            plain: 0,
            coded: 0,
            is_dirty: false,
            is_finished: false,
        }
    }

    /// Codes what is in `input`; the boundaries between calls leave no trace but flushes.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn take(&mut self, input: &mut Queue, output: &mut Queue, more: More) -> io::Result<Taken> {
        if self.postponed > 0 {
            self.gathered.append(input);
            if more == More::Later && self.gathered.len() < self.postponed {
                return Ok(Taken::All);
            }
            self.postponed = 0;
            input.append(&mut self.gathered);
        }
        if self.is_finished {
            input.clear();
            return Ok(Taken::All);
        }
        let last = match more {
            More::Later => Goal::Continue,
            More::Flush => Goal::Flush,
            More::End => Goal::Finish,
        };
        let mut chunk = input.pop();
        loop {
            let goal = if input.is_empty() { last } else { Goal::Continue };
            let bytes = chunk.as_ref().and_then(Chunk::bytes).unwrap_or_default();
            self.is_dirty |= !bytes.is_empty();
            let is_idle = match goal {
                Goal::Continue => bytes.is_empty(),
                Goal::Flush => !self.is_dirty,
                Goal::Finish => false,
            };
            if is_idle {
                break;
            }
            if self.ready.capacity() == 0 {
                self.ready = Buf::with_capacity(self.buffer_size);
            }
            let before = self.ready.len();
            let encoded = self.encoder.encode(bytes, self.ready.vec(), goal)?;
            self.plain += encoded.consumed as u64;
            self.coded += (self.ready.len() - before) as u64;
            if encoded.is_done {
                self.is_dirty &= goal == Goal::Continue;
                match input.pop() {
                    Some(next) => chunk = Some(next),
                    None => break,
                }
                continue;
            }
            if let Some(chunk) = &mut chunk {
                chunk.advance(encoded.consumed as u64);
            }
            self.pass(output);
            if output.len() >= ENOUGH {
                if let Some(chunk) = chunk {
                    input.push_front(chunk);
                }
                return Ok(Taken::Part);
            }
        }
        if more != More::Later || self.unbuffered {
            self.pass(output);
        }
        self.is_finished = more == More::End;
        Ok(Taken::All)
    }

    fn pass(&mut self, output: &mut Queue) {
        output.push(std::mem::take(&mut self.ready).into());
    }
}

impl<E: Encoder> BodyFilter for Encode<E> {
    fn weight(&self) -> u64 {
        64
    }

    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken> {
        let taken = self.take(input, output, more)?;
        if self.is_finished {
            r.contexts.put(Ratio { coding: self.coding, plain: self.plain, coded: self.coded });
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes each byte twice, and a full stop at the end; a bar for each flush.
    struct Twice {
        half: Option<u8>,
        is_over: bool,
    }

    impl Encoder for Twice {
        fn encode(&mut self, input: &[u8], output: &mut Vec<u8>, goal: Goal) -> io::Result<Encoded> {
            let mut consumed = 0;
            loop {
                if output.len() == output.capacity() {
                    return Ok(Encoded { consumed, is_done: false });
                }
                if let Some(byte) = self.half.take() {
                    output.push(byte);
                } else if let Some(byte) = input.get(consumed) {
                    output.push(*byte);
                    self.half = Some(*byte);
                    consumed += 1;
                } else {
                    match goal {
                        Goal::Continue => {}
                        Goal::Flush => output.push(b'|'),
                        Goal::Finish => {
                            assert!(!self.is_over, "finished twice");
                            self.is_over = true;
                            output.push(b'.');
                        }
                    }
                    return Ok(Encoded { consumed, is_done: true });
                }
            }
        }
    }

    fn filter(settings: &Settings) -> Encode<Twice> {
        Encode::new(Twice { half: None, is_over: false }, Coding::Gzip, settings)
    }

    fn text(queue: &mut Queue) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = queue.pop() {
            text.extend_from_slice(chunk.bytes().expect("memory"));
        }
        String::from_utf8(text).expect("ASCII")
    }

    #[test]
    fn input_comes_in_any_pieces() {
        let check = |pieces: &[(&str, More)], expected: &str| {
            let mut encode = filter(&Settings::default());
            let (mut input, mut output) = (Queue::default(), Queue::default());
            for (piece, more) in pieces {
                input.push(Chunk::copied(piece.as_bytes()));
                while encode.take(&mut input, &mut output, *more).expect("no failure") == Taken::Part {}
            }
            assert_eq!(text(&mut output), expected, "{pieces:?}");
        };
        use More::{End, Flush, Later};
        check(&[("ab", End)], "aabb.");
        check(&[("a", Later), ("b", End)], "aabb.");
        check(&[("a", Flush), ("b", End)], "aa|bb.");
        check(&[("a", Flush), ("", Flush), ("", End)], "aa|.");
        check(&[("", Flush), ("", End)], ".");
        check(&[("a", Later), ("", Flush), ("", Later), ("b", Later), ("", End)], "aa|bb.");
    }

    #[test]
    fn a_full_output_stops_the_work() {
        let mut encode = filter(&Settings::default());
        let (mut input, mut output) = (Queue::default(), Queue::default());
        for _ in 0..10 {
            input.push(Chunk::copied(&[b'x'; 20_000]));
        }
        let mut rounds = 0;
        let mut length = 0;
        while encode.take(&mut input, &mut output, More::End).expect("no failure") == Taken::Part {
            assert!(output.len() < ENOUGH + BUFFER_MAX, "{}", output.len());
            length += text(&mut output).len();
            rounds += 1;
        }
        length += text(&mut output).len();
        assert_eq!((length, encode.plain, encode.coded), (400_001, 200_000, 400_001));
        assert!(rounds >= 5, "{rounds}");
    }

    #[test]
    fn what_is_postponed_is_not_lost() {
        let mut encode = filter(&Settings { postponed: 4, ..Settings::default() });
        let (mut input, mut output) = (Queue::default(), Queue::default());
        for piece in ["a", "b"] {
            input.push(Chunk::copied(piece.as_bytes()));
            assert_eq!(encode.take(&mut input, &mut output, More::Later).expect("no failure"), Taken::All);
        }
        assert_eq!(encode.plain, 0);
        input.push(Chunk::copied(b"cd"));
        assert_eq!(encode.take(&mut input, &mut output, More::End).expect("no failure"), Taken::All);
        assert_eq!(text(&mut output), "aabbccdd.");
    }

    #[test]
    fn ratios() {
        let check = |plain, coded, expected: &str| {
            let mut out = Vec::new();
            assert_eq!(Ratio { coding: Coding::Gzip, plain, coded }.write(&mut out), !expected.is_empty());
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(2125, 1000, "2.13");
        check(2124, 1000, "2.12");
        check(1999, 1000, "2.00");
        check(1, 20, "0.05");
        check(0, 20, "0.00");
        check(10, 0, "");
    }
}
