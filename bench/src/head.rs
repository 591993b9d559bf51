//! The little of an HTTP/1.1 response head that the load generator has to know.
//! A head equal to the one before is recognised by comparing bytes, so most are not parsed at all.

/// What the head says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection serves the next request.
    KeepAlive,
    /// The server closes the connection behind this response.
    Close,
}

/// A complete response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head with its empty line.
    pub len: usize,
    /// The status code.
    pub status: u16,
    /// `Content-Length` in bytes; `None` where the length is told in another way.
    pub body: Option<u64>,
    /// Whether the connection lives on.
    pub persistence: Persistence,
}

/// The outcome of looking for a head at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The empty line has not arrived.
    Partial,
    /// This is no HTTP/1 response.
    Malformed,
    /// The head, whole.
    Whole(Head),
}

/// Remembers the last head, which the next one most likely equals to the byte.
#[derive(Default)]
pub struct HeadCache {
    bytes: Vec<u8>,
    head: Option<Head>,
}

impl HeadCache {
    /// Parses the head at the start of `bytes`, or recognises it.
    pub fn parse(&mut self, bytes: &[u8]) -> Parsed {
        if let Some(head) = self.head
            && bytes.starts_with(&self.bytes)
        {
            return Parsed::Whole(head);
        }
        let parsed = parse(bytes);
        if let Parsed::Whole(head) = parsed {
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes.get(..head.len).unwrap_or_default());
            self.head = Some(head);
        }
        parsed
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Parsed::Partial;
    };
    let Ok(text) = str::from_utf8(bytes.get(..end).unwrap_or_default()) else {
        return Parsed::Malformed;
    };
    let mut lines = text.split("\r\n");
    let Some(status) = lines.next().and_then(status) else {
        return Parsed::Malformed;
    };
    let mut head = Head { len: end + 4, status, body: None, persistence: Persistence::KeepAlive };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            head.body = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
            head.persistence = Persistence::Close;
        }
    }
    Parsed::Whole(head)
}

fn status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Persistence::{Close, KeepAlive};
    use super::*;

    fn check(input: &str, expected: Parsed) {
        let mut cache = HeadCache::default();
        assert_eq!(cache.parse(input.as_bytes()), expected, "{input}");
        assert_eq!(cache.parse(input.as_bytes()), expected, "again: {input}");
    }

    fn whole(len: usize, status: u16, body: Option<u64>, persistence: Persistence) -> Parsed {
        Parsed::Whole(Head { len, status, body, persistence })
    }

    #[test]
    fn heads() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", whole(38, 200, Some(5), KeepAlive));
        check("HTTP/1.1 502 Bad Gateway\r\n\r\n", whole(28, 502, None, KeepAlive));
        check("HTTP/1.1 200 OK\r\nconnection: Close\r\n\r\n", whole(38, 200, None, Close));
        check("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", whole(38, 200, None, KeepAlive));
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Parsed::Partial);
        check("SSH-2.0\r\n\r\n", Parsed::Malformed);
        check("HTTP/1.1 2\r\n\r\n", Parsed::Malformed);
    }

    #[test]
    fn a_new_head_replaces_the_remembered_one() {
        let mut cache = HeadCache::default();
        cache.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let other = cache.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
        assert_eq!(other, whole(38, 200, Some(6), KeepAlive));
    }
}
