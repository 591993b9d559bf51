//! What a TLS client's hello says before anybody answers it: the name, the protocols, the version
//! (`ngx_stream_ssl_preread_module`).
//!
//! It is looked at and not understood: whoever is to answer may still refuse it.

/// What has come so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// More is needed.
    More,
    /// It is no hello of TLS.
    Other,
    /// The hello.
    Hello(ClientHello),
}

/// What a hello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name of the server, as it was sent; empty without one.
    pub name: Vec<u8>,
    /// The protocols that the client speaks, parted by commas; empty without any.
    pub protocols: Vec<u8>,
    version: [u8; 2],
}

const RECORD_HEAD: usize = 5;
const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const VERSIONS: u16 = 43;

impl ClientHello {
    /// The highest version that the client speaks, as OpenSSL names it; empty for one without a name.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match self.version {
            [0, 2] => "SSLv2",
            [3, 0] => "SSLv3",
            [3, 1] => "TLSv1",
            [3, 2] => "TLSv1.1",
            [3, 3] => "TLSv1.2",
            [3, 4] => "TLSv1.3",
            _ => "",
        }
    }
}

/// Looks at the beginning of what a client sends.
#[must_use]
pub fn peek(bytes: &[u8]) -> Peeked {
    let mut message = Vec::new();
    let mut rest = bytes;
    while let Some((&[kind, major, second, third, fourth], behind)) = rest.split_first_chunk::<RECORD_HEAD>()
    {
        if kind & 0x80 != 0 && second == CLIENT_HELLO && matches!(third, 0 | 3) {
            // A hello of SSLv2: its version, and nothing more that could be told.
            return Peeked::Hello(ClientHello { version: [third, fourth], ..ClientHello::default() });
        }
        if kind != HANDSHAKE || major != 3 {
            return Peeked::Other;
        }
        let length = usize::from(u16::from_be_bytes([third, fourth]));
        let Some(record) = behind.get(..length) else { break };
        message.extend_from_slice(record);
        match read_message(&message) {
            Peeked::More => {}
            known => return known,
        }
        rest = behind.get(length..).unwrap_or_default();
    }
    Peeked::More
}

/// Reads a message of the handshake, which may lie in several records.
fn read_message(message: &[u8]) -> Peeked {
    let Some((&[kind, a, b, c], body)) = message.split_first_chunk::<4>() else { return Peeked::More };
    if kind != CLIENT_HELLO {
        return Peeked::Other;
    }
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    match body.get(..length) {
        None => Peeked::More,
        Some(body) => read_hello(body).map_or(Peeked::Other, Peeked::Hello),
    }
}

/// RFC 8446, 4.1.2.
fn read_hello(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    let version = *reader.take(2)?.first_chunk::<2>()?;
    let mut hello = ClientHello { version, ..ClientHello::default() };
    reader.take(32)?;
    let session = reader.byte()?;
    reader.take(usize::from(session))?;
    let ciphers = reader.number()?;
    reader.take(usize::from(ciphers))?;
    let compressions = reader.byte()?;
    reader.take(usize::from(compressions))?;
    if reader.0.is_empty() {
        return Some(hello);
    }
    reader.number()?;
    let (mut has_name, mut has_protocols) = (false, false);
    while !reader.0.is_empty() {
        let kind = reader.number()?;
        let length = reader.number()?;
        // As nginx, which goes by the lengths inside of what it knows.
        match kind {
            SERVER_NAME if !has_name => {
                has_name = true;
                hello.name = reader.name()?;
            }
            PROTOCOLS if !has_protocols => {
                has_protocols = true;
                hello.protocols = reader.protocols()?;
            }
            VERSIONS => {
                hello.version = [3, 4];
                let length = reader.byte()?;
                reader.take(usize::from(length))?;
            }
            _ => {
                reader.take(usize::from(length))?;
            }
        }
    }
    Some(hello)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// RFC 6066, 3: a list of names, of which the first counts and must be a host's.
    fn name(&mut self) -> Option<Vec<u8>> {
        let length = self.number()?;
        let mut list = Self(self.take(usize::from(length))?);
        if list.byte()? != 0 {
            return None;
        }
        let length = list.number()?;
        list.take(usize::from(length)).map(<[u8]>::to_vec)
    }

    /// RFC 7301, 3.1.
    fn protocols(&mut self) -> Option<Vec<u8>> {
        let length = self.number()?;
        let mut list = Self(self.take(usize::from(length))?);
        let mut out = Vec::new();
        loop {
            let length = list.byte().filter(|length| *length > 0)?;
            out.extend_from_slice(list.take(usize::from(length))?);
            if list.0.is_empty() {
                return Some(out);
            }
            out.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello of these extensions in one record.
    fn hello(version: [u8; 2], extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = version.to_vec();
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
        let mut list = Vec::new();
        for (kind, bytes) in extensions {
            list.extend_from_slice(&kind.to_be_bytes());
            list.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            list.extend_from_slice(bytes);
        }
        if !list.is_empty() {
            body.extend_from_slice(&(list.len() as u16).to_be_bytes());
            body.extend_from_slice(&list);
        }
        let mut message = vec![CLIENT_HELLO, 0];
        message.extend_from_slice(&(body.len() as u16).to_be_bytes());
        message.extend_from_slice(&body);
        message
    }

    fn record(message: &[u8]) -> Vec<u8> {
        let mut out = vec![HANDSHAKE, 3, 1];
        out.extend_from_slice(&(message.len() as u16).to_be_bytes());
        out.extend_from_slice(message);
        out
    }

    const NAME: (u16, &[u8]) = (SERVER_NAME, b"\0\x06\0\0\x03foo");
    const ALPN: (u16, &[u8]) = (PROTOCOLS, b"\0\x0c\x02h2\x08http/1.1");

    #[test]
    fn hellos() {
        let check = |version, extensions: &[(u16, &[u8])], expected: Option<(&str, &str, &str)>| {
            let seen = peek(&record(&hello(version, extensions)));
            let expected =
                expected.map(|(name, protocols, version)| (name.into(), protocols.into(), version));
            let seen = match &seen {
                Peeked::Hello(hello) => Some((
                    String::from_utf8_lossy(&hello.name),
                    String::from_utf8_lossy(&hello.protocols),
                    hello.version(),
                )),
                other => {
                    assert_eq!(*other, Peeked::Other);
                    None
                }
            };
            assert_eq!(seen, expected);
        };
        check([3, 3], &[], Some(("", "", "TLSv1.2")));
        check([3, 3], &[NAME], Some(("foo", "", "TLSv1.2")));
        check([3, 1], &[ALPN, NAME], Some(("foo", "h2,http/1.1", "TLSv1")));
        check([3, 3], &[(VERSIONS, b"\x02\x03\x04")], Some(("", "", "TLSv1.3")));
        check([9, 9], &[], Some(("", "", "")));
        check([3, 3], &[(SERVER_NAME, b"\0\x06\x01\0\x03foo")], None);
        check([3, 3], &[(SERVER_NAME, b"\0\x06\0\0\x09foo")], None);
        check([3, 3], &[(PROTOCOLS, b"\0\x03\0h2")], None);
    }

    #[test]
    fn pieces() {
        let message = hello([3, 3], &[NAME]);
        let whole = record(&message);
        for length in 0..whole.len() {
            assert_eq!(peek(&whole[..length]), Peeked::More, "{length}");
        }
        let (first, second) = message.split_at(20);
        let parted = [record(first), record(second)].concat();
        assert_eq!(peek(&parted), peek(&whole));
        assert_eq!(peek(b"GET / HTTP/1.1"), Peeked::Other);
        assert_eq!(peek(b"\x16\x02\x01\0\0"), Peeked::Other);
        assert_eq!(peek(&record(b"\x02\0\0\0")), Peeked::Other);
        assert!(matches!(peek(b"\x80\x2e\x01\0\x02"), Peeked::Hello(hello) if hello.version() == "SSLv2"));
        assert_eq!(peek(&[]), Peeked::More);
    }
}
