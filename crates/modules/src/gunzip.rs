//! `ngx_http_gunzip_filter_module`: decodes gzip for clients that do not take it.
//!
//! Little input can become very much output, so it stops whenever enough of that waits for the client.

use std::io;

use conf::{Arity, Bufs, Contexts};
use flate2::{Decompress, FlushDecompress, Status};
use http::chunk::{Chunk, Queue};
use http::coding::{self, Coding};
use http::conf::Location;
use http::filters::{BodyFilter, ENOUGH, Filtered, HeaderFilter, More, Taken};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, flag, value};
use net::Buf;
use os::errlog::Level;
use proto::h1::Known;

/// `ngx_http_gunzip_filter_module`.
pub struct Gunzip;

/// Settings of [`Gunzip`].
#[derive(Clone)]
pub struct GunzipSettings {
    enabled: bool,
    buffers: Bufs,
}

impl Default for GunzipSettings {
    fn default() -> Self {
        Self { enabled: false, buffers: Bufs { number: 32, size: 4096 } }
    }
}

impl Settings for GunzipSettings {}

static SLOT: Slot = Slot::new();

static ROWS: [Row<GunzipSettings>; 2] = [
    flag(
        "gunzip",
        Contexts::HTTP_ALL,
        "off",
        "Decodes gzip for clients that do not take it.",
        |s: &mut GunzipSettings, v| s.enabled = v,
    ),
    value(
        "gunzip_buffers",
        Contexts::HTTP_ALL,
        Arity::TWO,
        "32 4k",
        "Memory for decoded output.",
        |s: &mut GunzipSettings, d| {
            s.buffers = d.bufs()?;
            Ok(())
        },
    ),
];

impl Module for Gunzip {
    const NAME: &'static str = "ngx_http_gunzip_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = GunzipSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }
}

impl HeaderFilter for Gunzip {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().enabled
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().settings::<Self>();
        let is_gzip = |coding: &[u8]| coding.eq_ignore_ascii_case(b"gzip");
        if !r.response.headers.known(Known::ContentEncoding).is_some_and(is_gzip) {
            return Filtered::Next;
        }
        let Bufs { number, size } = settings.buffers;
        r.response.varies_by_coding = true;
        if coding::accepts(r, Coding::Gzip) {
            return Filtered::Next;
        }
        r.response.headers.remove_known(Known::ContentEncoding);
        coding::changes_body(r);
        r.output.add_filter(Box::new(Inflate::new(number.saturating_mul(size))));
        Filtered::Next
    }
}

/// Most bytes that one buffer of decoded output has.
const BUFFER_MAX: u64 = 16 << 10;

/// Decodes a body of one or more gzip members.
struct Inflate {
    state: Decompress,
    buffer_size: usize,
    /// A member is over; another one may follow.
    is_between: bool,
    is_finished: bool,
}

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The bytes are no gzip.
    Invalid,
    /// The body ended inside of a member.
    CutOff,
}

impl Inflate {
    fn new(memory: u64) -> Self {
        Self {
            state: Decompress::new_gzip(15),
            buffer_size: usize::try_from(memory.clamp(512, BUFFER_MAX)).unwrap_or(4096),
            is_between: false,
            is_finished: false,
        }
    }

    fn take(&mut self, input: &mut Queue, output: &mut Queue, more: More) -> Result<Taken, Fault> {
        let mut chunk = input.pop();
        loop {
            let bytes = chunk.as_ref().and_then(Chunk::bytes).unwrap_or_default();
            if bytes.is_empty() {
                match input.pop() {
                    Some(next) => chunk = Some(next),
                    None => break,
                }
                continue;
            }
            if self.is_between {
                self.is_between = false;
                self.state = Decompress::new_gzip(15);
            }
            let mut buf = Buf::with_capacity(self.buffer_size);
            let before = self.state.total_in();
            let status = self.state.decompress_vec(bytes, buf.vec(), FlushDecompress::None);
            let status = status.map_err(|_| Fault::Invalid)?;
            let consumed = self.state.total_in() - before;
            let is_full = buf.len() == buf.capacity();
            if consumed == 0 && buf.is_empty() && status != Status::StreamEnd {
                return Err(Fault::Invalid);
            }
            output.push(buf.into());
            self.is_between = status == Status::StreamEnd;
            if let Some(chunk) = &mut chunk {
                chunk.advance(consumed);
            }
            // A match may go on in the next buffer although all input is in.
            if is_full && !self.is_between && chunk.as_ref().is_none_or(Chunk::is_empty) {
                self.drain(output)?;
            }
            if output.len() >= ENOUGH {
                if let Some(chunk) = chunk {
                    input.push_front(chunk);
                }
                return Ok(Taken::Part);
            }
        }
        if more == More::End && !self.is_finished {
            if !self.is_between {
                return Err(Fault::CutOff);
            }
            self.is_finished = true;
        }
        Ok(Taken::All)
    }

    /// Puts out what the decoder holds back although it has taken in all.
    fn drain(&mut self, output: &mut Queue) -> Result<(), Fault> {
        loop {
            let mut buf = Buf::with_capacity(self.buffer_size);
            let status = self.state.decompress_vec(&[], buf.vec(), FlushDecompress::None);
            let status = status.map_err(|_| Fault::Invalid)?;
            self.is_between = status == Status::StreamEnd;
            let is_full = buf.len() == buf.capacity();
            output.push(buf.into());
            if !is_full {
                return Ok(());
            }
        }
    }
}

impl BodyFilter for Inflate {
    fn weight(&self) -> u64 {
        32
    }

    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken> {
        self.take(input, output, more).map_err(|fault| {
            match fault {
                Fault::Invalid => r.log(Level::Error, format_args!("inflate() failed: 0, -3")),
                Fault::CutOff => {
                    r.log(Level::Error, format_args!("inflate() returned -5 on response end"));
                }
            }
            io::ErrorKind::InvalidData.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn gunzip(coded: &[u8], piece: usize) -> Result<Vec<u8>, Fault> {
        let mut inflate = Inflate::new(8192);
        let (mut input, mut output, mut plain) = (Queue::default(), Queue::default(), Vec::new());
        let ends = coded.chunks(piece).map(|piece| (piece, More::Later)).chain([(&b""[..], More::End)]);
        for (piece, more) in ends {
            input.push(Chunk::copied(piece));
            loop {
                let taken = inflate.take(&mut input, &mut output, more)?;
                assert!(output.len() < ENOUGH + 2 * BUFFER_MAX, "{}", output.len());
                while let Some(chunk) = output.pop() {
                    plain.extend_from_slice(chunk.bytes().expect("memory"));
                }
                if taken == Taken::All {
                    break;
                }
            }
        }
        Ok(plain)
    }

    #[test]
    fn any_pieces_make_the_same_text() {
        let text: Vec<u8> =
            (0..50_000u32).flat_map(|n| (n % 4999 * (n % 331) % 251).to_string().into_bytes()).collect();
        let zeroes = vec![0; 3_000_000];
        let two = [gzip(b"one, "), gzip(b"two")].concat();
        for (coded, expected) in
            [(gzip(&text), &text[..]), (gzip(&zeroes), &zeroes), (gzip(b""), b""), (two, b"one, two")]
        {
            for piece in [1, 7, 1000, 1 << 20] {
                assert!(gunzip(&coded, piece) == Ok(expected.to_vec()), "{piece} of {}", coded.len());
            }
        }
    }

    #[test]
    fn what_is_no_gzip() {
        let coded = gzip(b"some text");
        let check = |coded: &[u8], fault| assert_eq!(gunzip(coded, 5), Err(fault), "{coded:?}");
        check(b"", Fault::CutOff);
        check(b"plain text", Fault::Invalid);
        check(&coded[..coded.len() - 1], Fault::CutOff);
        check(&[&coded[..], b"trailing garbage"].concat(), Fault::Invalid);
        let mut wrong = coded;
        let last = wrong.len() - 6;
        wrong[last] ^= 1;
        check(&wrong, Fault::Invalid);
    }
}
