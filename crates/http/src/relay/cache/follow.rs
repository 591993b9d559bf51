//! An answer that another request fetches: served from what is there of it, as it grows.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use ::cache::{Filling, Phase, Piece};

use super::look::Step;
use super::vary::{self, Variant};
use super::{Case, Status, Use, serve};
use crate::chunk::{Chunk, Queue};
use crate::filters::More;
use crate::output;
use crate::phases::Outcome;
use crate::relay::head::Heading;
use crate::request::Request;

/// Reads along with a fetch whose head is known; otherwise says what to do instead.
pub(super) async fn follow(
    r: &mut Request,
    heading: Heading<'_>,
    mut case: Box<Case>,
    filling: &Arc<Filling>,
) -> Step {
    if filling.phase() != Phase::Streaming {
        return Step::Again(case);
    }
    let Some(source) = filling.source() else { return Step::Again(case) };
    match vary::select(r, &mut case, &source.meta) {
        Variant::This => {}
        Variant::Other => return Step::Again(case),
        Variant::Wrong => return Step::Ask(case),
    }
    let Some(length) = serve::load_head(r, &source.head, None) else { return Step::Ask(case) };
    case.status = Status::Hit;
    case.answer = Use::Cached;
    r.cache = Some(case);
    let outcome = match heading.accel_redirect(r) {
        Some(outcome) => outcome,
        None => {
            heading.copy_head(r, length);
            match output::send_head(r) {
                Err(outcome) => outcome,
                Ok(()) => {
                    let (outcome, bytes) = stream(r, filling).await;
                    if let Some(case) = &mut r.cache {
                        case.bytes = bytes;
                    }
                    outcome
                }
            }
        }
    };
    Step::Done(outcome)
}

/// Passes on what there is, and waits for more. Gives the bytes that there were, too.
async fn stream(r: &mut Request, filling: &Arc<Filling>) -> (Outcome, u64) {
    if r.response.header_only {
        output::push_body(r, Queue::default(), More::End);
        let is_sent = output::flush(r).await.is_ok();
        return (if is_sent { Outcome::Sent } else { Outcome::Broken(0) }, 0);
    }
    let mut watch = filling.watch();
    let mut at = 0u64;
    let mut is_whole = false;
    let client_deadline = r.location().core.send_timeout;
    r.client_deadline().set_after(client_deadline);
    loop {
        // What came after this look wakes the wait below.
        let phase = watch.borrow_and_update().phase;
        let mut part = Queue::default();
        while let Some(piece) = filling.piece(at) {
            let Some(chunk) = chunk(filling, piece) else { return (Outcome::Broken(0), at) };
            at += chunk.len();
            part.push(chunk);
        }
        if phase == Phase::Stored && !is_whole {
            is_whole = true;
            output::push_body(r, part, More::End);
        } else if !part.is_empty() {
            output::push_body(r, part, More::Flush);
        }
        let mut news = pin!(watch.changed());
        let woken = poll_fn(|cx| {
            let flushed = match output::poll_flush(r, cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            if is_whole {
                return if flushed { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if phase.is_over() || news.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if flushed && r.poll_client_gone(cx).is_ready() {
                return Poll::Ready(Err(()));
            }
            Poll::Pending
        })
        .await;
        match (woken, phase) {
            (Err(()), _) => return (Outcome::Broken(0), at),
            (Ok(()), _) if is_whole => return (Outcome::Sent, at),
            (Ok(()), Phase::Failed | Phase::Declined) => {
                let _ = output::flush(r).await;
                return (Outcome::Broken(0), at);
            }
            (Ok(()), _) => {}
        }
    }
}

fn chunk(filling: &Arc<Filling>, piece: Piece) -> Option<Chunk> {
    Some(match piece {
        Piece::File { offset, end } => {
            Chunk::File { file: Arc::clone(filling.source()?.file()?), offset, end }
        }
        Piece::Bytes(bytes) => Chunk::copied(&bytes),
    })
}
