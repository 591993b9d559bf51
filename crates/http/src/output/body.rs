//! The body of an answer: through the filters where there are any, framed, and put behind what waits to be written.

use std::io;
use std::os::fd::AsFd;

use net::Buf;
use os::errlog::Level;

use super::Framing;
use super::number::chunk_head;
use crate::chunk::{Chunk, Queue};
use crate::filters::More;
use crate::request::Request;

/// Bytes of small bodies that are copied behind the head instead of leaving as a slice of their own.
const COPY_MAX: u64 = 2048;
/// Bytes of files that are read instead of being left to `sendfile`, where that can take them.
const SMALL_FILE: u64 = 4 << 10;
/// The same where it cannot, or where more than the file follows.
const SMALL_FILE_AMONG_OTHERS: u64 = 16 << 10;

/// A queue for a part of the body.
#[inline]
pub fn new_part(r: &mut Request) -> Queue {
    r.output.spare.take().unwrap_or_default()
}

/// Queues a part of the body: for the filters where there are any, else framed for the client.
pub fn push_body(r: &mut Request, part: Queue, more: More) {
    r.output.had_body |= !part.is_empty();
    match &mut r.output.filters {
        Some(chain) if !r.response.header_only => chain.put(part, more),
        _ => frame(r, part, more),
    }
}

/// As [`push_body`], for all of a body, which is in memory: so many bytes of `buf` from `start` on.
pub fn push_whole(r: &mut Request, mut buf: Buf, start: usize, length: usize) {
    let output = &mut r.output;
    let is_plain = output.filters.is_none() && !r.response.header_only && !r.is_subrequest;
    let is_bare = matches!(output.framing, Framing::Length(_) | Framing::UntilClose);
    if is_plain && is_bare && length as u64 <= COPY_MAX {
        if let Framing::Length(left) = &mut output.framing {
            *left = left.saturating_sub(length as u64);
        }
        output.queue.push_bytes(buf.get(start..start + length).unwrap_or_default());
        output.had_body |= length > 0;
        output.wants_flush = false;
        output.is_ended = true;
        return;
    }
    buf.truncate(start + length);
    push_chunk(r, Chunk::Buf { buf, start }, More::End);
}

/// As [`push_body`], for one chunk.
pub fn push_chunk(r: &mut Request, chunk: Chunk, more: More) {
    let mut part = Queue::default();
    part.push(chunk);
    push_body(r, part, more);
}

/// Lets the filters make more of what came in; says how much work that was, in the measure of `most`.
pub(super) fn refill(r: &mut Request, most: u64) -> io::Result<u64> {
    let Some(mut chain) = r.output.filters.take() else { return Ok(0) };
    let mut part = Queue::default();
    match chain.run(r, &mut part, most) {
        Ok(ran) => {
            r.output.filters = Some(chain);
            frame(r, part, ran.more);
            Ok(ran.work)
        }
        Err(error) => {
            r.output.is_failed = true;
            if part.is_empty() && r.output.sent == 0 {
                return Err(error);
            }
            // What was made of the beginning still goes out, but no head alone.
            r.output.is_broken = true;
            frame(r, part, More::Later);
            Ok(most)
        }
    }
}

fn frame(r: &mut Request, mut part: Queue, more: More) {
    let is_end = more == More::End;
    r.output.wants_flush = more == More::Flush;
    if r.response.header_only {
        r.output.is_ended |= is_end;
        return;
    }
    if r.is_subrequest {
        match &r.output.capture {
            Some(_) => gather(r, part),
            None => r.output.queue.append(&mut part),
        }
        r.output.is_ended |= is_end;
        return;
    }
    let is_left = part.len() > SMALL_FILE && r.sends_by_sendfile();
    let small = if is_left { SMALL_FILE } else { SMALL_FILE_AMONG_OTHERS };
    match &mut r.output.framing {
        Framing::None => {}
        Framing::Length(left) => {
            *left = left.saturating_sub(part.len());
            push_all(&mut r.output.queue, &mut part, small);
        }
        Framing::UntilClose => push_all(&mut r.output.queue, &mut part, small),
        Framing::Chunked => {
            let length = part.len();
            if length > 0 {
                let mut size = [0u8; 20];
                r.output.queue.push_bytes(chunk_head(length, &mut size));
                push_all(&mut r.output.queue, &mut part, SMALL_FILE_AMONG_OTHERS);
                r.output.queue.push_bytes(b"\r\n");
            }
            if is_end && !r.output.is_ended {
                r.output.queue.push_bytes(b"0\r\n");
                let mut trailers = Vec::new();
                r.response.trailers.write_to(&mut trailers);
                trailers.extend_from_slice(b"\r\n");
                r.output.queue.push_bytes(&trailers);
            }
        }
    }
    r.output.is_ended |= is_end;
    if part.is_empty() {
        r.output.spare = Some(part);
    }
}

/// Small pieces are copied behind what is there already; one buffer is cheaper to send than two. So is a file of up to
/// `small_file` bytes.
fn push_all(queue: &mut Queue, part: &mut Queue, small_file: u64) {
    if part.len() <= COPY_MAX {
        while let Some(bytes) = part.first_bytes() {
            queue.push_bytes(bytes);
            part.pop();
        }
        if part.is_empty() {
            return;
        }
    }
    if part.len() <= small_file && append_file(queue, part) {
        return;
    }
    queue.append(part);
}

/// A small file is read behind the head: one write is cheaper than a write and a `sendfile`. Says whether it
/// was; otherwise nothing has changed.
fn append_file(queue: &mut Queue, part: &mut Queue) -> bool {
    let Some(Chunk::File { file, offset, end }) = part.iter().next() else { return false };
    if part.len() != end - offset {
        return false;
    }
    let length = usize::try_from(end - offset).unwrap_or(usize::MAX);
    let mut buf = Buf::with_capacity(length);
    let read = os::io::pread_append(file.as_fd(), &mut buf, length, *offset);
    if read.is_ok_and(|count| count == length) {
        part.clear();
        queue.push_bytes_of(buf);
        return true;
    }
    false
}

fn gather(r: &mut Request, mut part: Queue) {
    let Some(capture) = &mut r.output.capture else { return };
    let limit = r.cycle.http.location(r.location).core.subrequest_output_buffer_size as u64;
    // A known length is judged before anything is taken, and then is all the room that there is, as in nginx.
    let announced = r.response.content_length;
    if let Some(length) = announced.filter(|length| *length > limit) {
        r.output.is_failed = true;
        r.log(Level::Error, format_args!("too big subrequest response: {length}"));
        return;
    }
    if capture.len() as u64 + part.len() > announced.unwrap_or(limit) {
        r.output.is_failed = true;
        r.log(Level::Error, format_args!("too big subrequest response"));
        return;
    }
    while let Some(chunk) = part.pop() {
        match chunk.into_memory() {
            Ok(chunk) => capture.extend_from_slice(chunk.bytes().unwrap_or_default()),
            Err(_) => r.output.is_failed = true,
        }
    }
}
