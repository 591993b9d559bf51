//! What the answers to one lookup add up to: addresses of both families, a CNAME to follow, or a failure.
//!
//! The order of arrival counts, as in nginx: an error of either family fails the name once both have answered.

use std::net::IpAddr;

use super::ResolveError;
use super::message::{RecordType, Records, Reply, Service};

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Addresses { v4: Box<[IpAddr]>, v6: Box<[IpAddr]> },
    Services(Box<[Service]>),
    Pointer(Box<str>),
    Cname(Box<str>),
    Failed(ResolveError),
}

/// The end of a lookup and for how many seconds it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conclusion {
    pub found: Found,
    pub keep_sec: u32,
}

#[derive(Debug)]
enum Part {
    Unasked,
    Awaited,
    Here(Vec<IpAddr>),
}

impl Part {
    fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited)
    }

    fn list(&self) -> &[IpAddr] {
        if let Self::Here(list) = self { list } else { &[] }
    }
}

/// Collects the answers to the questions of one lookup.
#[derive(Debug)]
pub(super) struct Merge {
    v4: Part,
    v6: Part,
    error: Option<ResolveError>,
    ttl: u32,
    negative_ttl: u32,
}

impl Merge {
    /// Nothing has arrived yet.
    pub fn new(questions: &[RecordType]) -> Self {
        let part = |which| if questions.contains(&which) { Part::Awaited } else { Part::Unasked };
        let (v4, v6) = (part(RecordType::A), part(RecordType::Aaaa));
        Self { v4, v6, error: None, ttl: u32::MAX, negative_ttl: u32::MAX }
    }

    /// Takes an answer; the conclusion when it was the last one needed.
    ///
    /// A truncated reply says nothing.
    pub fn take(&mut self, asked: RecordType, reply: Reply) -> Option<Conclusion> {
        let (records, error) = match reply {
            Reply::Truncated => return None,
            Reply::Records(records) => (records, None),
            Reply::Failed(error, keep_sec) => {
                self.negative_ttl = self.negative_ttl.min(keep_sec);
                (Records { ttl: u32::MAX, ..Records::default() }, Some(error))
            }
            Reply::Empty(keep_sec) => {
                self.negative_ttl = self.negative_ttl.min(keep_sec);
                return self.place(asked, Vec::new()).then(|| self.conclude_addresses(None));
            }
        };
        self.ttl = self.ttl.min(records.ttl);
        if let Some(error) = error.or(self.error) {
            let complete = self.place(asked, Vec::new());
            self.error = Some(error);
            return complete.then(|| self.fail(error));
        }
        match asked {
            RecordType::Srv if !records.services.is_empty() => {
                let mut services = records.services;
                services.sort_by_key(|service| service.priority);
                Some(self.good(Found::Services(services.into())))
            }
            RecordType::Ptr => {
                let found = records.pointer.map_or(Found::Failed(ResolveError::NotFound), Found::Pointer);
                Some(self.good(found))
            }
            _ => self.place(asked, records.addresses).then(|| self.conclude_addresses(records.cname)),
        }
    }

    /// Files the addresses of one family; whether no other is awaited.
    fn place(&mut self, asked: RecordType, addresses: Vec<IpAddr>) -> bool {
        match asked {
            RecordType::A => self.v4 = Part::Here(addresses),
            RecordType::Aaaa => self.v6 = Part::Here(addresses),
            RecordType::Srv | RecordType::Ptr => {}
        }
        !self.v4.is_awaited() && !self.v6.is_awaited()
    }

    /// All is here. The CNAME is that of the last answer, as in nginx.
    fn conclude_addresses(&self, cname: Option<Box<str>>) -> Conclusion {
        if let Some(error) = self.error {
            return self.fail(error);
        }
        let (v4, v6) = (self.v4.list(), self.v6.list());
        if !v4.is_empty() || !v6.is_empty() {
            return self.good(Found::Addresses { v4: v4.into(), v6: v6.into() });
        }
        // Without a CNAME nginx lets the request wait for its timeout; there is nothing to wait for.
        cname.map_or_else(|| self.fail(ResolveError::NotFound), |name| self.good(Found::Cname(name)))
    }

    fn good(&self, found: Found) -> Conclusion {
        let failed = matches!(found, Found::Failed(_));
        Conclusion { found, keep_sec: if failed { 0 } else { self.ttl } }
    }

    fn fail(&self, error: ResolveError) -> Conclusion {
        // Kept only where the server said for how long (RFC 2308); a failure of the server never.
        let known = error == ResolveError::NotFound && self.negative_ttl != u32::MAX;
        Conclusion { found: Found::Failed(error), keep_sec: if known { self.negative_ttl } else { 0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[RecordType] = &[RecordType::A, RecordType::Aaaa];

    fn addr(text: &str) -> Reply {
        let addresses = text.split_whitespace().map(|ip| ip.parse().expect(ip)).collect();
        Reply::Records(Records { addresses, ttl: 60, ..Records::default() })
    }

    fn cname(name: &str) -> Reply {
        Reply::Records(Records { cname: Some(name.into()), ttl: 30, ..Records::default() })
    }

    fn told(conclusion: Option<Conclusion>) -> String {
        let Some(Conclusion { found, keep_sec }) = conclusion else { return "waits".into() };
        let text = match found {
            Found::Addresses { v4, v6 } => {
                v4.iter().chain(&v6).map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            Found::Cname(name) => format!("cname {name}"),
            Found::Failed(error) => error.to_string(),
            Found::Services(list) => list.iter().map(|s| format!("{}:{} ", s.target, s.port)).collect(),
            Found::Pointer(name) => format!("ptr {name}"),
        };
        format!("{text} for {keep_sec}")
    }

    #[test]
    fn two_families() {
        let check = |first: Reply, second: Reply, expected: &str| {
            let mut merge = Merge::new(BOTH);
            assert_eq!(merge.take(RecordType::A, first), None, "{expected}");
            assert_eq!(told(merge.take(RecordType::Aaaa, second)), expected);
        };
        let failed = || Reply::Failed(ResolveError::ServerFailure, 0);
        let none = |keep| Reply::Failed(ResolveError::NotFound, keep);
        check(addr("127.0.0.1"), addr("::1"), "127.0.0.1 ::1 for 60");
        check(addr("127.0.0.1"), Reply::Empty(0), "127.0.0.1 for 60");
        check(Reply::Empty(9), addr("::1"), "::1 for 60");
        check(Reply::Empty(0), Reply::Empty(0), "Host not found for 0");
        check(Reply::Empty(7), Reply::Empty(9), "Host not found for 7");
        check(Reply::Empty(7), Reply::Empty(0), "Host not found for 0");
        check(none(5), none(9), "Host not found for 5");
        check(addr("127.0.0.1"), failed(), "Server failure for 0");
        check(failed(), addr("::1"), "Server failure for 0");
        check(failed(), Reply::Empty(0), "Server failure for 0");
        check(failed(), none(5), "Host not found for 0");
        check(cname("a"), cname("b"), "cname b for 30");
        check(Reply::Empty(0), cname("b"), "cname b for 30");
        check(cname("a"), Reply::Empty(0), "Host not found for 0");
        check(addr("127.0.0.1"), cname("b"), "127.0.0.1 for 30");
        check(addr(""), addr(""), "Host not found for 0");
    }

    #[test]
    fn one_question() {
        let check = |asked: RecordType, reply: Reply, expected: &str| {
            assert_eq!(told(Merge::new(&[asked]).take(asked, reply)), expected);
        };
        check(RecordType::A, addr("127.0.0.1"), "127.0.0.1 for 60");
        check(RecordType::A, Reply::Truncated, "waits");
        check(RecordType::A, Reply::Empty(3), "Host not found for 3");
        check(RecordType::A, cname("b"), "cname b for 30");
        check(RecordType::Srv, cname("b"), "cname b for 30");
        check(RecordType::Srv, Reply::Empty(3), "Host not found for 3");
        let service = |priority, port| Service { priority, weight: 1, port, target: "a".into() };
        let services = vec![service(2, 80), service(1, 81), service(2, 82)];
        let reply = Reply::Records(Records { services, ttl: 5, ..Records::default() });
        check(RecordType::Srv, reply, "a:81 a:80 a:82  for 5");
        let reply = Reply::Records(Records { pointer: Some("n".into()), ttl: 5, ..Records::default() });
        check(RecordType::Ptr, reply, "ptr n for 5");
        check(RecordType::Ptr, cname("b"), "Host not found for 0");
    }
}
