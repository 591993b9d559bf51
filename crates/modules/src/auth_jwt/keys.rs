//! A set of keys (RFC 7517) and signatures under them (RFC 7518, 8037).
//!
//! A key is used for the algorithms of its own kind alone, whatever a token says: a public key never serves as
//! the secret of an HMAC.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use http::credentials::decode_base64url;
use serde_json::{Map, Value};

/// Why a set of keys is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyFault {
    #[error("is no JSON Web Key Set")]
    Format,
    #[error("has a key that lacks a member or holds no base64url")]
    Member,
}

enum Material {
    Secret(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// The curve and the point, uncompressed.
    Ec {
        curve: Curve,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
    Secp256k1,
}

struct Key {
    id: Option<String>,
    /// The only algorithm that the key is for.
    algorithm: Option<String>,
    material: Material,
}

/// Keys of one file or answer.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Reads a set. Keys of kinds that are not known, and keys for encryption, are passed over.
    pub(super) fn read(text: &[u8]) -> Result<Self, KeyFault> {
        let set: Value = serde_json::from_slice(text).map_err(|_| KeyFault::Format)?;
        let list = set.get("keys").and_then(Value::as_array).ok_or(KeyFault::Format)?;
        let mut keys = Vec::new();
        for key in list {
            let key = key.as_object().ok_or(KeyFault::Format)?;
            if key.get("use").is_some_and(|usage| usage != "sig") {
                continue;
            }
            let Some(material) = material(key)? else { continue };
            let text = |name: &str| key.get(name).and_then(Value::as_str).map(str::to_owned);
            keys.push(Key { id: text("kid"), algorithm: text("alg"), material });
        }
        Ok(Self(keys))
    }

    /// Whether `signature` is that of `message` under one of the keys that the token's head allows.
    pub(super) fn verify(&self, algorithm: &str, id: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let suits = |key: &&Key| {
            let is_same_id = match (id, &key.id) {
                (Some(id), Some(own)) => id == own,
                _ => true,
            };
            is_same_id && key.algorithm.as_deref().is_none_or(|own| own == algorithm)
        };
        self.0.iter().filter(suits).any(|key| key.material.verify(algorithm, message, signature))
    }
}

fn material(key: &Map<String, Value>) -> Result<Option<Material>, KeyFault> {
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    let bytes = |name: &str| {
        let member = key.get(name).and_then(Value::as_str).ok_or(KeyFault::Member)?;
        decode_base64url(member.as_bytes()).ok_or(KeyFault::Member)
    };
    Ok(match text("kty") {
        // A secret that is empty would let anybody sign.
        "oct" => Some(Material::Secret(bytes("k").ok().filter(|k| !k.is_empty()).ok_or(KeyFault::Member)?)),
        "RSA" => Some(Material::Rsa { modulus: bytes("n")?, exponent: bytes("e")? }),
        "EC" => {
            let (curve, size) = match text("crv") {
                "P-256" => (Curve::P256, 32),
                "P-384" => (Curve::P384, 48),
                "P-521" => (Curve::P521, 66),
                "secp256k1" => (Curve::Secp256k1, 32),
                _ => return Ok(None),
            };
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != size || y.len() != size {
                return Err(KeyFault::Member);
            }
            Some(Material::Ec { curve, point: [&[4], &*x, &y].concat() })
        }
        "OKP" if text("crv") == "Ed25519" => Some(Material::Ed25519(bytes("x")?)),
        _ => None,
    })
}

impl Material {
    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(secret) => {
                let kind = match algorithm {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => return false,
                };
                hmac::verify(&hmac::Key::new(kind, secret), message, signature).is_ok()
            }
            Self::Rsa { modulus, exponent } => rsa(algorithm).is_some_and(|parameters| {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, signature).is_ok()
            }),
            Self::Ec { curve, point } => ecdsa(algorithm, *curve).is_some_and(|parameters| {
                UnparsedPublicKey::new(parameters, point).verify(message, signature).is_ok()
            }),
            Self::Ed25519(key) => {
                algorithm == "EdDSA"
                    && UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature).is_ok()
            }
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn ecdsa(algorithm: &str, curve: Curve) -> Option<&'static EcdsaVerificationAlgorithm> {
    Some(match (algorithm, curve) {
        ("ES256", Curve::P256) => &signature::ECDSA_P256_SHA256_FIXED,
        ("ES384", Curve::P384) => &signature::ECDSA_P384_SHA384_FIXED,
        ("ES512", Curve::P521) => &signature::ECDSA_P521_SHA512_FIXED,
        ("ES256K", Curve::Secp256k1) => &signature::ECDSA_P256K1_SHA256_FIXED,
        _ => return None,
    })
}
