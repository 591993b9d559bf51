//! Origins that are name servers: each question is a request `TYPE /NAME DNS`, each text of its rule a record.
//!
//! Nothing is compressed but the name, which is that of the question; what no rule knows does not exist.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{OriginSpec, ReplyAct, Rule, Seen, Shared};
use crate::message::{Ending, Framing, Message};

/// How often the socket looks whether the origin was stopped.
const LOOK: Duration = Duration::from_millis(20);
/// Seconds that a record holds unless its rule says `TTL`.
const TTL: u32 = 1;
const TYPES: [(&str, u16); 3] = [("A", 1), ("AAAA", 28), ("SRV", 33)];
const NO_SUCH_NAME: u16 = 3;

/// Answers questions until `stop`.
pub(super) fn serve(socket: &UdpSocket, spec: &OriginSpec, shared: &Arc<Shared>, stop: &AtomicBool) {
    if socket.set_read_timeout(Some(LOOK)).is_err() {
        return;
    }
    let (mut query, mut nth) = ([0; 512], 0);
    while !stop.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
        let Some(query) = query.get(..length) else { continue };
        let Some((request, kind)) = question(query) else { continue };
        nth += 1;
        let rule = shared.rule(spec, &request);
        shared.note(Seen { origin: spec.number, connection: 0, nth, request });
        if let Some(reply) = reply(query, kind, rule) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// The question as a request, and its type.
fn question(query: &[u8]) -> Option<(Message, u16)> {
    let (mut rest, mut labels) = (query.get(12..)?, Vec::new());
    loop {
        let (length, behind) = rest.split_first()?;
        if *length == 0 {
            rest = behind;
            break;
        }
        let (label, behind) = behind.split_at_checked(usize::from(*length))?;
        labels.push(crate::text::latin1(label));
        rest = behind;
    }
    let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let known = TYPES.iter().find(|(_, number)| *number == kind);
    let start = format!("{} /{} DNS", known.map_or("?", |(name, _)| name), labels.join("."));
    let message = Message {
        start,
        headers: Vec::new(),
        body: Vec::new(),
        framing: Framing::None,
        ending: Ending::Whole,
        trailers: Vec::new(),
    };
    Some((message, kind))
}

fn reply(query: &[u8], kind: u16, rule: Option<&Rule>) -> Option<Vec<u8>> {
    let acts = rule.map_or(&[][..], |rule| &rule.acts);
    let ttl = acts.iter().find_map(|act| match act {
        ReplyAct::Header(name, value) if name.eq_ignore_ascii_case("TTL") => value.parse().ok(),
        _ => None,
    });
    let records: Vec<Vec<u8>> = acts
        .iter()
        .filter_map(|act| match act {
            ReplyAct::Text(text) => record(kind, text),
            _ => None,
        })
        .collect();
    let code = if rule.is_some() { 0 } else { NO_SUCH_NAME };
    let mut reply = query.get(..2)?.to_vec();
    for number in [0x8180 | code, 1, u16::try_from(records.len()).ok()?, 0, 0] {
        reply.extend_from_slice(&number.to_be_bytes());
    }
    reply.extend_from_slice(query.get(12..)?);
    for record in records {
        // The name is the question's; the class is IN.
        reply.extend_from_slice(&[0xc0, 12]);
        reply.extend_from_slice(&[kind.to_be_bytes(), [0, 1]].concat());
        reply.extend_from_slice(&ttl.unwrap_or(TTL).to_be_bytes());
        reply.extend_from_slice(&u16::try_from(record.len()).ok()?.to_be_bytes());
        reply.extend_from_slice(&record);
    }
    Some(reply)
}

/// An address, or `PRIORITY WEIGHT PORT TARGET`; none where the text is of another type.
fn record(kind: u16, text: &str) -> Option<Vec<u8>> {
    match kind {
        1 => text.parse::<Ipv4Addr>().ok().map(|addr| addr.octets().to_vec()),
        28 => text.parse::<Ipv6Addr>().ok().map(|addr| addr.octets().to_vec()),
        _ => {
            let words: Vec<&str> = text.split(' ').collect();
            let [numbers @ .., target] = &words[..] else { return None };
            let numbers: Vec<u16> = numbers.iter().map(|word| word.parse().ok()).collect::<Option<_>>()?;
            let mut record = numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>();
            for label in target.split('.') {
                record.push(u8::try_from(label.len()).ok()?);
                record.extend_from_slice(label.as_bytes());
            }
            record.push(0);
            (numbers.len() == 3).then_some(record)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let check = |kind, text, expected: Option<&[u8]>| {
            assert_eq!(record(kind, text).as_deref(), expected, "{text}");
        };
        check(1, "127.0.0.1", Some(&[127, 0, 0, 1]));
        check(1, "::1", None);
        check(33, "1 2 80 a.bc", Some(&[0, 1, 0, 2, 0, 80, 1, b'a', 2, b'b', b'c', 0]));
        check(33, "1 2 a", None);
    }
}
