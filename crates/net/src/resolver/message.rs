//! DNS messages (RFC 1035): a query out, an answer in. No I/O, no clock.
//!
//! Follows `ngx_resolver.c` in what it accepts: owner names of records are not compared with the question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ResolveError;

/// Bytes of the header.
const HEADER: usize = 12;
/// Bytes of the longest name as text; nginx asks for such, although RFC 1035 ends at 253.
const MAX_NAME: usize = 255;
/// Labels and pointers on the way through one name, against pointers that form a loop.
const MAX_STEPS: usize = 128;
/// Addresses or services kept of one answer; further ones are dropped.
pub(super) const MAX_RECORDS: usize = 1024;

/// What a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RecordType {
    A,
    Aaaa,
    Srv,
    Ptr,
}

const CNAME: u16 = 5;
const SOA: u16 = 6;

impl RecordType {
    const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ptr => 12,
            Self::Aaaa => 28,
            Self::Srv => 33,
        }
    }
}

/// How a message arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// A question, ready to be sent and to be compared with the one of an answer.
#[derive(Debug)]
pub(super) struct Question {
    pub name: Box<str>,
    pub record_type: RecordType,
    /// Name, type and class as they stand in a message.
    wire: Box<[u8]>,
}

impl Question {
    /// The question for a name in small letters; `None` where no name can look like this.
    pub fn new(name: &str, record_type: RecordType) -> Option<Self> {
        if name.len() > MAX_NAME {
            return None;
        }
        let mut wire = Vec::with_capacity(name.len() + 6);
        for label in name.split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            if label.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
                return None;
            }
            wire.push(length);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        wire.extend_from_slice(&record_type.number().to_be_bytes());
        wire.extend_from_slice(&[0, 1]);
        Some(Self { name: name.into(), record_type, wire: wire.into() })
    }

    /// The query: recursion desired, one question.
    pub fn query(&self, id: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + self.wire.len());
        message.extend_from_slice(&id.to_be_bytes());
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend_from_slice(&self.wire);
        message
    }
}

/// A service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub priority: u16,
    /// At least one.
    pub weight: u16,
    pub port: u16,
    pub target: Box<str>,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Only a part fitted: ask again over TCP.
    Truncated,
    /// The name has something to tell.
    Records(Records),
    /// An error; for [`ResolveError::NotFound`] also for how many seconds it may be kept.
    Failed(ResolveError, u32),
    /// The name exists and has nothing of the type; for how many seconds that may be kept.
    Empty(u32),
}

/// The records of an answer that were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub addresses: Vec<IpAddr>,
    pub services: Vec<Service>,
    /// The first name of a PTR answer.
    pub pointer: Option<Box<str>>,
    /// The last CNAME, read only where nothing else is in the answer.
    pub cname: Option<Box<str>>,
    /// Seconds, the least of all records.
    pub ttl: u32,
}

/// Why a message is no answer to the question. It is passed over, and the answer still awaited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("short DNS response")]
    Short,
    #[error("invalid {transport} DNS response {id} fl:{flags:04X}")]
    Flags { transport: &'static str, id: u16, flags: u16 },
    #[error("DNS error ({code}: {text}), query id:{id}, name:\"{name}\"")]
    Code { code: u8, text: &'static str, id: u16, name: Box<str> },
    #[error("invalid number of questions in DNS response")]
    Questions,
    #[error("unexpected DNS response for {0}")]
    Unexpected(Box<str>),
    #[error("wrong ident {id} in DNS response for {name}, expect {expected}")]
    Ident { id: u16, name: Box<str>, expected: u16 },
    #[error("unexpected RR class {0} in DNS response")]
    Class(u16),
    #[error("unexpected {0} record in DNS response")]
    OtherAddress(&'static str),
    #[error("invalid {0} record in DNS response")]
    Address(&'static str),
    #[error("invalid name in DNS response")]
    Name,
    #[error("invalid label type in DNS response")]
    Label,
    #[error("name is out of DNS response")]
    Outside,
    #[error("compression pointers loop in DNS response")]
    Loop,
}

/// The id of a message.
pub(super) fn id_of(message: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*message.first_chunk()?))
}

/// The question of a message that answers nothing known, for the log.
pub(super) fn asked_name(message: &[u8]) -> Box<str> {
    read_name(message, HEADER).unwrap_or_default()
}

/// Whether a message carries exactly this question, in letters of any case.
pub(super) fn carries(message: &[u8], question: &Question) -> bool {
    let end = HEADER + question.wire.len();
    message.get(HEADER..end).is_some_and(|wire| wire.eq_ignore_ascii_case(&question.wire))
}

/// Reads a message as the answer to each question that may be asked for `name`; how many records were taken.
pub(super) fn read_any(name: &str, message: &[u8]) -> usize {
    let types = [RecordType::A, RecordType::Aaaa, RecordType::Srv, RecordType::Ptr];
    let _ = (id_of(message), asked_name(message));
    let mut taken = 0;
    for question in types.into_iter().filter_map(|record_type| Question::new(name, record_type)) {
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Ok(Reply::Records(records)) = read(message, transport, &question) {
                taken += records.addresses.len() + records.services.len();
            }
        }
    }
    taken
}

/// Reads the answer to a question; the caller has compared the id.
pub(super) fn read(message: &[u8], transport: Transport, question: &Question) -> Result<Reply, Fault> {
    let mut header = Reader { message, at: 0 };
    let (id, flags) = (header.u16()?, header.u16()?);
    let (questions, answers, authorities) = (header.u16()?, header.u16()?, header.u16()?);
    header.u16()?;
    let truncated = flags & 0x0200 != 0;
    // A response to a standard query whose reserved bits are clear.
    if flags & 0xf870 != 0x8000 || (truncated && transport == Transport::Tcp) {
        let transport = if transport == Transport::Tcp { "TCP" } else { "UDP" };
        return Err(Fault::Flags { transport, id, flags });
    }
    let rcode = (flags & 0xf) as u8;
    let failed = ResolveError::from_rcode(rcode);
    // Neither a format error nor an unknown code ends the wait: another server may do better.
    if rcode == 1 || rcode > 5 {
        let text = if rcode == 1 { "Format error" } else { "Unknown error" };
        return Err(Fault::Code { code: rcode, text, id, name: question.name.clone() });
    }
    if questions != 1 {
        return Err(Fault::Questions);
    }
    if !carries(message, question) {
        return Err(Fault::Unexpected(asked_name(message)));
    }
    if truncated {
        return Ok(Reply::Truncated);
    }
    let body = Reader { message, at: HEADER + question.wire.len() };
    if failed.is_some() || answers == 0 {
        let keep_sec = negative_ttl(body, answers, authorities).unwrap_or(0);
        return Ok(failed.map_or(Reply::Empty(keep_sec), |error| Reply::Failed(error, keep_sec)));
    }
    read_records(body, answers, question.record_type).map(Reply::Records)
}

fn read_records(mut body: Reader<'_>, count: u16, asked: RecordType) -> Result<Records, Fault> {
    let mut found = Records { ttl: u32::MAX, ..Records::default() };
    let mut cname_at = None;
    for _ in 0..count {
        let record = body.record()?;
        if record.owner_is_root {
            return Err(Fault::Name);
        }
        if record.class != 1 {
            return Err(Fault::Class(record.class));
        }
        found.ttl = found.ttl.min(record.ttl);
        match record.number {
            1 if asked == RecordType::A => {
                push(&mut found.addresses, IpAddr::V4(Ipv4Addr::from(octets::<4>(&record, "A")?)));
            }
            28 if asked == RecordType::Aaaa => {
                push(&mut found.addresses, IpAddr::V6(Ipv6Addr::from(octets::<16>(&record, "AAAA")?)));
            }
            1 if asked == RecordType::Aaaa => return Err(Fault::OtherAddress("A")),
            28 if asked == RecordType::A => return Err(Fault::OtherAddress("AAAA")),
            33 if asked == RecordType::Srv => push(&mut found.services, service(&body, &record)?),
            12 if asked == RecordType::Ptr && found.pointer.is_none() => {
                found.pointer = Some(read_name(body.message, record.rdata_at)?);
            }
            CNAME => cname_at = Some(record.rdata_at),
            // A DNAME comes with the CNAME made from it; others are passed over.
            _ => {}
        }
    }
    if found.addresses.is_empty() && found.services.is_empty() && found.pointer.is_none() {
        found.cname = cname_at.map(|at| read_name(body.message, at)).transpose()?;
    }
    Ok(found)
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() < MAX_RECORDS {
        list.push(item);
    }
}

fn octets<const N: usize>(record: &Record<'_>, name: &'static str) -> Result<[u8; N], Fault> {
    record.rdata.try_into().map_err(|_| Fault::Address(name))
}

fn service(body: &Reader<'_>, record: &Record<'_>) -> Result<Service, Fault> {
    let [a, b, c, d, e, f] = *record.rdata.first_chunk().ok_or(Fault::Short)?;
    let target = read_name(body.message, record.rdata_at + 6)?;
    // A weight of zero would never be chosen.
    let weight = u16::from_be_bytes([c, d]).max(1);
    Ok(Service { priority: u16::from_be_bytes([a, b]), weight, port: u16::from_be_bytes([e, f]), target })
}

/// Seconds for which "there is none" may be kept: the least of the SOA's TTL and MINIMUM (RFC 2308, 5).
fn negative_ttl(mut body: Reader<'_>, answers: u16, authorities: u16) -> Option<u32> {
    for _ in 0..answers {
        body.record().ok()?;
    }
    for _ in 0..authorities {
        let record = body.record().ok()?;
        if record.number == SOA && record.class == 1 {
            let minimum = record.rdata.last_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
            return Some(record.ttl.min(minimum));
        }
    }
    None
}

struct Record<'a> {
    owner_is_root: bool,
    number: u16,
    class: u16,
    ttl: u32,
    rdata: &'a [u8],
    rdata_at: usize,
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.saturating_add(length);
        let bytes = self.message.get(self.at..end).ok_or(Fault::Short)?;
        self.at = end;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        self.take(2)?.try_into().map(u16::from_be_bytes).map_err(|_| Fault::Short)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| Fault::Short)
    }

    fn record(&mut self) -> Result<Record<'a>, Fault> {
        let owner_is_root = self.skip_name()?;
        let (number, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = self.u16()?;
        let rdata_at = self.at;
        let rdata = self.take(usize::from(length))?;
        // RFC 2181, 8: a TTL with the highest bit set is zero.
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Ok(Record { owner_is_root, number, class, ttl, rdata, rdata_at })
    }

    /// Steps over a name and says whether it is the root.
    fn skip_name(&mut self) -> Result<bool, Fault> {
        let start = self.at;
        loop {
            let length = *self.take(1)?.first().ok_or(Fault::Short)?;
            match length {
                0 => return Ok(self.at - start == 1),
                1..=63 => drop(self.take(usize::from(length))?),
                0xc0.. => {
                    self.take(1)?;
                    return Ok(false);
                }
                _ => return Err(Fault::Label),
            }
        }
    }
}

/// The name that begins at an offset, in small letters and without the last dot.
fn read_name(message: &[u8], mut at: usize) -> Result<Box<str>, Fault> {
    let mut name = Vec::new();
    for _ in 0..MAX_STEPS {
        let length = *message.get(at).ok_or(Fault::Outside)?;
        match length {
            0 => {
                let name = String::from_utf8(name).map_err(|_| Fault::Name)?;
                return Ok(name.into_boxed_str());
            }
            1..=63 => {
                let label = message.get(at + 1..at + 1 + usize::from(length)).ok_or(Fault::Outside)?;
                if label.iter().any(|byte| *byte <= b' ' || *byte == 0x7f || *byte == b'.') {
                    return Err(Fault::Name);
                }
                if !name.is_empty() {
                    name.push(b'.');
                }
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                if name.len() > MAX_NAME {
                    return Err(Fault::Name);
                }
                at += 1 + label.len();
            }
            0xc0.. => {
                let low = *message.get(at + 1).ok_or(Fault::Outside)?;
                at = usize::from(length & 0x3f) << 8 | usize::from(low);
            }
            _ => return Err(Fault::Label),
        }
    }
    Err(Fault::Loop)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
