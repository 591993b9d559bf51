//! Sessions over a pair of sockets, and what is said of the certificates of tests.

use std::sync::Arc;

use super::*;
use crate::block_on;
use crate::{Buf, Deadline, Stream};

macro_rules! cert {
    ($name:literal) => {
        include_bytes!(concat!("../../../../testkit/certs/", $name))
    };
}

fn identity(certificate: &[u8], key: &[u8], passwords: &[Vec<u8>]) -> Result<Arc<Identity>, IdentityError> {
    Identity::new(Chain::read(certificate)?, &Key::read(key, passwords)?).map(Arc::new)
}

fn server(protocols: Protocols) -> ServerConfig {
    server_that(protocols, Preference::Client)
}

fn server_that(protocols: Protocols, preference: Preference) -> ServerConfig {
    let options = ServerOptions {
        protocols,
        ciphers: &CipherList::parse("HIGH").expect("a list"),
        curves: &CurveList::parse("auto").expect("a list"),
        preference,
        identities: Identities(vec![
            identity(cert!("localhost.crt"), cert!("localhost.key"), &[]).expect("a certificate"),
        ]),
        client_auth: Some(ClientAuth::default()),
        record_size: 4096,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        sessions: Arc::new(NoSessions),
        tickets: Arc::new(NoTickets),
        early_data: false,
    };
    ServerConfig::new(&options).expect("a configuration")
}

fn client(identity: Option<Arc<Identity>>) -> ClientConfig {
    let options = ClientOptions {
        protocols: Protocols::TLS12.with(Protocols::TLS13),
        ciphers: &CipherList::parse("DEFAULT").expect("a list"),
        curves: &CurveList::parse("auto").expect("a list"),
        identity,
        reuses_sessions: true,
    };
    ClientConfig::new(options).expect("a configuration")
}

fn channel(alpn: &'static [u8]) -> Channel {
    Channel { peer: "peer".into(), name: b"a.example.com"[..].into(), tells_name: true, alpn: alpn.into() }
}

/// Two streams that are connected.
fn pair() -> std::io::Result<(Stream, Stream)> {
    let (one, other) = std::os::unix::net::UnixStream::pair()?;
    one.set_nonblocking(true)?;
    other.set_nonblocking(true)?;
    Ok((Stream::local(one.into()), Stream::local(other.into())))
}

/// Both ends of a connection after their handshake.
async fn connected(protocols: Protocols, alpn: &'static [u8]) -> std::io::Result<(Stream, Stream)> {
    let (near, far) = pair()?;
    let deadline = Deadline::new();
    let own = identity(cert!("client.crt"), cert!("client.key"), &[]).expect("a certificate");
    near.connect_tls(&client(Some(own)), channel(alpn)).expect("a session");
    let serve = async {
        assert!(matches!(far.read_hello(Buf::empty(), &deadline).await?, Begun::Tls));
        far.tls().expect("a session").accept(&server(protocols)).expect("a configuration");
        far.handshake(&deadline).await
    };
    let (asked, served) = both(near.handshake(&deadline), serve).await;
    asked?;
    served?;
    Ok((near, far))
}

/// Waits for both.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    use std::task::Poll;
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(move |cx| {
        if first.is_none()
            && let Poll::Ready(done) = a.as_mut().poll(cx)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = b.as_mut().poll(cx)
        {
            second = Some(done);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

async fn read_all(stream: &Stream, piece: usize) -> std::io::Result<Vec<u8>> {
    let (mut all, deadline) = (Vec::new(), Deadline::new());
    while stream.recv(&mut all, piece, &deadline).await? > 0 {}
    Ok(all)
}

#[test]
fn bytes_cross_in_both_versions() {
    for protocols in [Protocols::TLS12, Protocols::TLS13] {
        block_on(async {
            let (near, far) = connected(protocols, b"\x05other\x08http/1.1").await.expect("a handshake");
            let session = far.tls().expect("a session");
            assert_eq!(session.hello().and_then(|hello| hello.name.as_deref()), Some("a.example.com"));
            assert_eq!(session.alpn().as_deref(), Some(&b"http/1.1"[..]));
            assert!(session.has_peer_certificate());
            let sent: Vec<u8> = (0..1_000_000u32).map(|number| number.to_le_bytes()[1]).collect();
            for piece in [1000, 100_000] {
                let deadline = Deadline::new();
                let mut got = Vec::new();
                let send = far.send_all(&sent, &deadline);
                let read = async {
                    while got.len() < sent.len() {
                        near.recv(&mut got, piece, &deadline).await?;
                    }
                    std::io::Result::Ok(())
                };
                let (sending, reading) = both(send, read).await;
                sending.expect("sent");
                reading.expect("read");
                assert!(got == sent, "{piece}");
            }
            assert!(near.is_quiet());
            let deadline = Deadline::new();
            near.send_all(b"last", &deadline).await.expect("sent");
            near.shut_down_sending().expect("shut down");
            assert_eq!(read_all(&far, 10).await.expect("read"), b"last");
        });
    }
}

#[test]
fn chacha_comes_first_for_clients_that_put_it_first() {
    let agreed = |preference, first: &str| {
        block_on(async {
            let (near, far) = pair().expect("a pair");
            let deadline = Deadline::new();
            let options = ClientOptions {
                protocols: Protocols::TLS12,
                ciphers: &CipherList::parse(first).expect("a list"),
                curves: &CurveList::parse("auto").expect("a list"),
                identity: None,
                reuses_sessions: false,
            };
            let client = ClientConfig::new(options).expect("a configuration");
            near.connect_tls(&client, channel(b"\x02h2")).expect("a session");
            let serve = async {
                far.read_hello(Buf::empty(), &deadline).await?;
                far.tls()
                    .expect("a session")
                    .accept(&server_that(Protocols::TLS12, preference))
                    .expect("a configuration");
                far.handshake(&deadline).await
            };
            let (asked, served) = both(near.handshake(&deadline), serve).await;
            asked.and(served).expect("a handshake");
            far.tls().expect("a session").cipher().expect("a cipher")
        })
    };
    let (aes, chacha) = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305");
    let (aes_first, chacha_first) = (format!("{aes}:{chacha}"), format!("{chacha}:{aes}"));
    assert_eq!(agreed(Preference::Client, &aes_first), aes);
    assert_eq!(agreed(Preference::Client, &chacha_first), chacha);
    assert_eq!(agreed(Preference::ServerChaCha, &aes_first), agreed(Preference::Server, &aes_first));
    assert_eq!(agreed(Preference::ServerChaCha, &chacha_first), chacha);
}

#[test]
fn what_is_not_agreed_on_fails_on_both_sides() {
    block_on(async {
        let failed = connected(Protocols::TLS13, b"\x07nothing").await.err().expect("no agreement");
        let (reason, grade) = fault(&failed).expect("a TLS failure");
        assert!(reason.to_string().contains("no application protocol"), "{reason}");
        assert_eq!(grade, Fault::Peer);
    });
}

#[test]
fn a_failure_stays_one() {
    block_on(async {
        let (near, far) = pair().expect("a pair");
        let deadline = Deadline::new();
        near.connect_tls(&client(None), channel(b"")).expect("a session");
        far.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n", &deadline).await.expect("sent");
        for _ in 0..3 {
            assert!(near.handshake(&deadline).await.is_err());
            assert!(near.recv(&mut Vec::new(), 100, &deadline).await.is_err());
            assert!(near.send_all(b"x", &deadline).await.is_err());
        }
    });
}

#[test]
fn what_is_no_hello_is_handed_back() {
    block_on(async {
        let (near, far) = pair().expect("a pair");
        let deadline = Deadline::new();
        near.send_all(b"GET / HTTP/1.1\r\n", &deadline).await.expect("sent");
        let Ok(Begun::Plain(bytes)) = far.read_hello(Buf::empty(), &deadline).await else {
            panic!("no hello")
        };
        assert_eq!(&bytes[..], b"GET / HTTP/1.1\r\n");
        near.send_all(&[0x16, 3, 1, 0, 5, 99, 0, 0, 1, 0], &deadline).await.expect("sent");
        assert!(far.read_hello(Buf::empty(), &deadline).await.is_err());
    });
}

#[test]
fn certificates_are_judged_as_openssl_judges_them() {
    let trust = |crl: Option<&[u8]>| Trust::read(&[cert!("ca.crt")], crl, 1).expect("certificates");
    let der =
        |text: &[u8]| pem::blocks(text).expect("PEM").into_iter().map(|block| block.der).collect::<Vec<_>>();
    let check = |trust: &Trust, chain: &[u8], purpose: Purpose, expected: Verification| {
        assert_eq!(trust.judge(&der(chain), purpose), expected);
    };
    let good = Verification::Good;
    check(&trust(None), cert!("client.crt"), Purpose::Client, good);
    check(&trust(None), cert!("client.crt"), Purpose::Server, Verification::Bad(Flaw::InvalidPurpose));
    check(&trust(None), cert!("localhost.crt"), Purpose::Server, good);
    check(&trust(None), cert!("stranger.crt"), Purpose::Client, Verification::Bad(Flaw::SelfSigned));
    check(&trust(None), b"", Purpose::Client, Verification::Absent);
    check(&trust(Some(cert!("empty.crl"))), cert!("client.crt"), Purpose::Client, good);
    let revoked = Verification::Bad(Flaw::Revoked);
    check(&trust(Some(cert!("revoked.crl"))), cert!("client.crt"), Purpose::Client, revoked);
    let nobody = Trust::read(&[], None, 1).expect("nobody");
    let unverified = Verification::Bad(Flaw::UnableToVerifyLeaf);
    check(&nobody, cert!("client.crt"), Purpose::Client, unverified);
    // One that was changed behind its signature.
    let mut broken = der(cert!("client.crt"));
    let at = memchr::memmem::find(&broken[0], b"Tide, gate").expect("a name");
    broken[0][at] = b'H';
    let flaw = Verification::Bad(Flaw::SignatureFailure);
    assert_eq!(trust(None).judge(&broken, Purpose::Client), flaw);
    for length in 0..broken[0].len() {
        let cut = vec![broken[0][..length].to_vec()];
        assert_eq!(trust(None).judge(&cut, Purpose::Client), Verification::Bad(Flaw::Unspecified));
    }
}

#[test]
fn keys_open_by_their_password() {
    let password = || vec![b"wrong".to_vec(), b"tide".to_vec()];
    assert!(identity(cert!("localhost.crt"), cert!("encrypted.key"), &password()).is_ok());
    assert!(identity(cert!("rsa.crt"), cert!("legacy.key"), &password()).is_ok());
    for passwords in [vec![], vec![b"wrong".to_vec()]] {
        let refused = identity(cert!("localhost.crt"), cert!("encrypted.key"), &passwords);
        assert!(matches!(refused, Err(IdentityError::Key(_))));
    }
    let mismatch = identity(cert!("localhost.crt"), cert!("rsa.key"), &[]);
    assert_eq!(mismatch.err(), Some(IdentityError::Mismatch));
}

#[test]
fn a_certificate_shows_its_parts() {
    let der = pem::blocks(cert!("client.crt")).expect("PEM").remove(0).der;
    let certificate = x509::Certificate::parse(&der).expect("a certificate");
    assert_eq!(names::rfc2253(certificate.subject()), b"CN=client,O=Tide\\, gate,C=DE");
    assert_eq!(names::oneline(certificate.subject()), b"/C=DE/O=Tide, gate/CN=client");
    assert_eq!(names::serial(&certificate), b"1002");
    let der = pem::blocks(cert!("localhost.crt")).expect("PEM").remove(0).der;
    let certificate = x509::Certificate::parse(&der).expect("a certificate");
    for (host, expected) in [("localhost", true), ("a.example.com", true), ("example.com", false)] {
        assert_eq!(matches_host(&certificate, host.as_bytes()), expected, "{host}");
    }
}
