//! Key exchange over the curve P-521, which rustls leaves out and AWS-LC has.
//!
//! Configurations name it (`ssl_ecdh_curve secp521r1:secp384r1`), some as their only curve.

use aws_lc_rs::agreement::{ECDH_P521, EphemeralPrivateKey, PublicKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// The curve, as rustls asks for it.
pub(super) static SECP521R1: &dyn SupportedKxGroup = &P521;

/// The first byte of a point whose both coordinates are there: no other form may be sent (RFC 8446, 4.2.8.2).
const UNCOMPRESSED: u8 = 4;

#[derive(Debug)]
struct P521;

impl SupportedKxGroup for P521 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let own = EphemeralPrivateKey::generate(&ECDH_P521, &SystemRandom::new());
        let own = own.map_err(|_| GetRandomFailed)?;
        let public = own.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange { own, public }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct Exchange {
    own: EphemeralPrivateKey,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let invalid = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);
        if peer.first() != Some(&UNCOMPRESSED) {
            return Err(invalid);
        }
        let peer = UnparsedPublicKey::new(&ECDH_P521, peer);
        agree_ephemeral(self.own, peer, invalid, |secret| Ok(SharedSecret::from(secret)))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_come_to_the_same_secret() {
        let (one, other) = (SECP521R1.start().expect("a key"), SECP521R1.start().expect("a key"));
        let (near, far) = (one.pub_key().to_vec(), other.pub_key().to_vec());
        assert_eq!(near.len(), 133);
        let one = one.complete(&far).expect("a secret");
        let other = other.complete(&near).expect("a secret");
        assert_eq!(one.secret_bytes(), other.secret_bytes());
        assert_eq!(one.secret_bytes().len(), 66);
    }

    #[test]
    fn what_is_no_point_is_refused() {
        let mut point = SECP521R1.start().expect("a key").pub_key().to_vec();
        point[132] ^= 1;
        let mut hybrid = point.clone();
        hybrid[0] = 6;
        for bad in [&b""[..], b"\x04", &point, &hybrid] {
            assert!(SECP521R1.start().expect("a key").complete(bad).is_err());
        }
    }
}
