//! Answers for tests, built by hand: good ones, and some that no server should send.
//!
//! Owner names are pointers to the question, as servers write them.

/// A message under construction.
pub(super) struct Packet {
    bytes: Vec<u8>,
    counts: [u16; 2],
}

/// A name in the form of a message.
pub(super) fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

impl Packet {
    /// An answer without records to a question.
    pub fn new(id: u16, name: &str, number: u16) -> Self {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend([0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(wire(name));
        bytes.extend(number.to_be_bytes());
        bytes.extend([0, 1]);
        Self { bytes, counts: [0, 0] }
    }

    /// Sets bits of the flags.
    pub fn flags(mut self, bits: u16) -> Self {
        self.bytes[2] |= (bits >> 8) as u8;
        self.bytes[3] |= bits as u8;
        self
    }

    /// A record of the answer.
    pub fn record(self, number: u16, ttl: u32, rdata: &[u8]) -> Self {
        self.section(0, number, ttl, rdata)
    }

    /// A record of the authority section.
    pub fn authority(self, number: u16, ttl: u32, rdata: &[u8]) -> Self {
        self.section(1, number, ttl, rdata)
    }

    /// An A or AAAA record.
    pub fn addr(self, ttl: u32, ip: &str) -> Self {
        match ip.parse().expect(ip) {
            std::net::IpAddr::V4(ip) => self.record(1, ttl, &ip.octets()),
            std::net::IpAddr::V6(ip) => self.record(28, ttl, &ip.octets()),
        }
    }

    /// A CNAME record.
    pub fn cname(self, ttl: u32, target: &str) -> Self {
        self.record(5, ttl, &wire(target))
    }

    /// An SRV record.
    pub fn srv(self, priority: u16, weight: u16, port: u16, target: &str) -> Self {
        let mut rdata: Vec<u8> = [priority, weight, port].iter().flat_map(|n| n.to_be_bytes()).collect();
        rdata.extend(wire(target));
        self.record(33, 60, &rdata)
    }

    /// The SOA record that tells how long "there is none" may be kept.
    pub fn soa(self, ttl: u32, minimum: u32) -> Self {
        let mut rdata = vec![0, 0];
        rdata.extend([0; 16]);
        rdata.extend(minimum.to_be_bytes());
        self.authority(6, ttl, &rdata)
    }

    /// The message.
    pub fn bytes(mut self) -> Vec<u8> {
        self.bytes[6..8].copy_from_slice(&self.counts[0].to_be_bytes());
        self.bytes[8..10].copy_from_slice(&self.counts[1].to_be_bytes());
        self.bytes
    }

    fn section(mut self, section: usize, number: u16, ttl: u32, rdata: &[u8]) -> Self {
        self.bytes.extend([0xc0, 12]);
        self.bytes.extend(number.to_be_bytes());
        self.bytes.extend([0, 1]);
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend((rdata.len() as u16).to_be_bytes());
        self.bytes.extend(rdata);
        self.counts[section] += 1;
        self
    }
}
