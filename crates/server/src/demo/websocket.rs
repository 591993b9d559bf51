//! An origin's end of a WebSocket (RFC 6455): greets, then sends every message back.
//!
//! SHA-1 is here for the handshake alone, where the RFC asks for it; it protects nothing.

use std::io::{self, BufRead, Read, Write};

/// Largest message that is sent back, bytes.
const MESSAGE_MAX: u64 = 1024 * 1024;
/// RFC 6455, 1.3.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const FINAL_TEXT: u8 = 0x81;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Accepts the upgrade under the client's `key`, greets with `greeting`, and echoes until the client closes.
pub(super) fn echo(
    from: &mut impl BufRead,
    to: &mut impl Write,
    key: &str,
    greeting: &str,
) -> io::Result<()> {
    write!(
        to,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    )?;
    send(to, FINAL_TEXT, greeting.as_bytes())?;
    loop {
        let (first, payload) = receive(from)?;
        match first & 0x0f {
            CLOSE => return send(to, first, &payload),
            PING => send(to, first & 0xf0 | PONG, &payload)?,
            PONG => {}
            _ => send(to, first, &payload)?,
        }
    }
}

fn accept(key: &str) -> String {
    base64(&sha1(format!("{key}{MAGIC}").as_bytes()))
}

/// Reads a frame: its first byte and what it carries.
fn receive(from: &mut impl BufRead) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    from.read_exact(&mut head)?;
    let [first, second] = head;
    let length = match second & 0x7f {
        126 => {
            let mut bytes = [0; 2];
            from.read_exact(&mut bytes)?;
            u16::from_be_bytes(bytes).into()
        }
        127 => {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            u64::from_be_bytes(bytes)
        }
        short => short.into(),
    };
    // RFC 6455, 5.1: a client masks.
    if second & 0x80 == 0 || length > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut mask = [0; 4];
    from.read_exact(&mut mask)?;
    let mut payload = Vec::new();
    if from.take(length).read_to_end(&mut payload)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((first, payload))
}

fn send(to: &mut impl Write, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    to.write_all(&frame)
}

/// FIPS 180-4, 6.1.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mixed, constant) = match at {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next.wrapping_add(*word));
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake() {
        // RFC 6455, 1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        // Two blocks of SHA-1 (FIPS 180-4's second example).
        let digest = sha1(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
        assert_eq!(digest[..4], [0x84, 0x98, 0x3e, 0x44]);
        let check = |text: &str, expected: &str| assert_eq!(base64(text.as_bytes()), expected);
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
    }

    #[test]
    fn frames() {
        let check = |frame: &[u8], expected: &[u8]| {
            let mut sent = Vec::new();
            let _ = echo(&mut &*frame, &mut sent, "", "");
            let at = sent.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
            // Behind the empty greeting.
            assert_eq!(&sent[at + 2..], expected);
        };
        check(&[0x81, 0x82, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2], &[0x81, 2, b'a', b'b']);
        check(&[0x89, 0x81, 0, 0, 0, 0, b'p'], &[0x8a, 1, b'p']);
        check(&[0x88, 0x80, 0, 0, 0, 0], &[0x88, 0]);
        // Not masked, too long, cut off.
        check(&[0x81, 1, b'a'], &[]);
        check(&[0x81, 0xff, 255, 255, 255, 255, 255, 255, 255, 255], &[]);
        check(&[0x81, 0x85, 0, 0, 0, 0, b'a'], &[]);
    }
}
