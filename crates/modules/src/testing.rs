//! What the tests of several modules do alike.
//!
//! No module uses another, and so it is none.

use http::coding::{Encoder, Goal};

/// The text as the encoder codes it, handed over in pieces of so many bytes into buffers that are soon full.
pub(crate) fn coded(encoder: &mut impl Encoder, text: &[u8], piece: usize, goal: Goal) -> Vec<u8> {
    let mut coded = Vec::new();
    let ends = text.chunks(piece).map(|piece| (piece, goal)).chain([(&b""[..], Goal::Finish)]);
    for (mut rest, goal) in ends {
        loop {
            let mut out = Vec::with_capacity(500);
            let encoded = encoder.encode(rest, &mut out, goal).expect("no failure");
            coded.extend_from_slice(&out);
            rest = &rest[encoded.consumed..];
            if encoded.is_done {
                break;
            }
        }
    }
    coded
}
