//! Answers of OCSP responders, and the certificates in them.
//!
//! They are read as answers about the client's certificate of the tests, whose issuer is trusted.

use std::sync::OnceLock;

use net::tls::ocsp::{Signers, read};
use net::tls::x509::Certificate;
use net::tls::{Trust, pem};

pub(crate) const ANSWERS: &[&[u8]] = &[
    b"\x30\x03\x0a\x01\x06",
    b"\x30\x82\x01\x00",
    b"\x30\x80",
    b"\x0a\x01\x00",
    b"\xa0\x03",
    b"\xa1\x11\x18\x0f20261126000000Z",
    b"\x80\0",
    b"\x82\0",
    b"\x18\x0f20261127080744Z",
    b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01",
    b"\x06\x05\x2b\x0e\x03\x02\x1a",
    b"\x04\x14",
    b"\x02\x02\x10\x02",
    b"\x03\x47\0",
    b"\xff",
    b"\0",
];

/// When the seeds are good, seconds since 1970.
const NOW: i64 = 1_795_770_000;

struct Known {
    chain: [Certificate; 2],
    trust: Trust,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let ca = include_bytes!("../../certs/ca.crt").as_slice();
        let client = include_bytes!("../../certs/client.crt").as_slice();
        let chain = [client, ca].map(|text| {
            let block = pem::blocks(text).expect("PEM").remove(0);
            Certificate::parse(&block.der).expect("a certificate")
        });
        Known { chain, trust: Trust::read(&[ca], None, 1).expect("whom to trust") }
    })
}

pub(crate) fn ocsp(bytes: &[u8]) {
    let Known { chain, trust } = known();
    for trust in [Some(trust), None] {
        let signers = Signers { at_hand: chain, trust };
        if let Ok(answer) = read(bytes, &chain[0], &chain[1], signers, NOW) {
            assert!(answer.valid_until.is_none_or(|until| until > NOW - 1000));
        }
    }
}
