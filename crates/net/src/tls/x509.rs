//! A certificate's parts, read from its DER as OpenSSL would read them: version 1 and odd names included.
//!
//! It judges nothing; that is done by `chain`.

use std::ops::Range;

use super::der::{Element, Malformed, Reader, tag};

/// Longest certificate, bytes.
const LONGEST: usize = 64 << 10;
/// Most names of one certificate.
const MOST_NAMES: usize = 1000;

/// Object identifiers, as their content bytes.
pub mod oid {
    pub const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
    pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    pub const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 31];
    pub const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 32];
    pub const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
    pub const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
    pub const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
    pub const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1];
    pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
    pub const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
    pub const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 37, 0];
}

/// `basicConstraints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicConstraints {
    /// It may sign certificates.
    pub is_ca: bool,
    /// How many may stand between it and a leaf.
    pub path_length: Option<u64>,
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    serial: Range<usize>,
    algorithm: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    public_key: Range<usize>,
    signature: Range<usize>,
    /// 1 to 3.
    pub version: u8,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// `basicConstraints`, where it has them.
    pub basic_constraints: Option<BasicConstraints>,
    /// The first two bytes of `keyUsage`.
    pub key_usage: Option<[u8; 2]>,
    purposes: Option<Vec<Range<usize>>>,
    dns_names: Vec<Range<usize>>,
    addresses: Vec<Range<usize>>,
    subject_key_id: Option<Range<usize>>,
    authority_key_id: Option<Range<usize>>,
    ocsp_url: Option<Range<usize>>,
    /// It has a critical extension that nobody here understands.
    pub has_unknown_critical: bool,
}

impl Certificate {
    /// Reads a certificate; what follows it in `der` is cut off.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(der: &[u8]) -> Result<Self, Malformed> {
        let outer = Reader::new(der).expect(tag::SEQUENCE)?;
        if outer.whole.len() > LONGEST {
            return Err(Malformed);
        }
        let der = outer.whole.to_vec();
        let place = |part: &[u8]| place_in(outer.whole, part);
        let mut reader = outer.reader();
        let tbs = reader.expect(tag::SEQUENCE)?;
        let algorithm = reader.expect(tag::SEQUENCE)?;
        let signature = reader.bits()?;
        let mut body = tbs.reader();
        let version = match body.optional(tag::context(0))? {
            None => 1,
            Some(version) => {
                let number = version.reader().expect(tag::INTEGER)?.small()?;
                u8::try_from(number).map_err(|_| Malformed)?.checked_add(1).ok_or(Malformed)?
            }
        };
        let serial = body.expect(tag::INTEGER)?;
        body.expect(tag::SEQUENCE)?;
        let issuer = body.expect(tag::SEQUENCE)?;
        let mut validity = body.sequence()?;
        let (not_before, not_after) = (validity.element()?.time()?, validity.element()?.time()?);
        let subject = body.expect(tag::SEQUENCE)?;
        let public_key = body.expect(tag::SEQUENCE)?;
        let mut certificate = Self {
            tbs: place(tbs.whole),
            serial: place(serial.content),
            algorithm: place(algorithm.content),
            issuer: place(issuer.whole),
            subject: place(subject.whole),
            public_key: place(public_key.whole),
            signature: place(signature),
            version,
            not_before,
            not_after,
            basic_constraints: None,
            key_usage: None,
            purposes: None,
            dns_names: Vec::new(),
            addresses: Vec::new(),
            subject_key_id: None,
            authority_key_id: None,
            ocsp_url: None,
            has_unknown_critical: false,
            der,
        };
        body.optional(tag::context_plain(1))?;
        body.optional(tag::context_plain(2))?;
        if let Some(extensions) = body.optional(tag::context(3))? {
            let mut list = extensions.reader().sequence()?;
            while !list.is_empty() {
                certificate.read_extension(list.sequence()?, outer.whole)?;
            }
        }
        Ok(certificate)
    }

    fn read_extension(&mut self, mut extension: Reader<'_>, der: &[u8]) -> Result<(), Malformed> {
        let id = extension.expect(tag::OID)?.content;
        let is_critical =
            extension.optional(tag::BOOLEAN)?.is_some_and(|flag| flag.content.iter().any(|byte| *byte != 0));
        let value = extension.expect(tag::OCTET_STRING)?;
        let mut value = value.reader();
        match id {
            oid::BASIC_CONSTRAINTS => {
                let mut parts = value.sequence()?;
                let flag = parts.optional(tag::BOOLEAN)?;
                let path_length = parts.optional(tag::INTEGER)?.map(|length| length.small()).transpose()?;
                let is_ca = flag.is_some_and(|flag| flag.content.iter().any(|byte| *byte != 0));
                self.basic_constraints = Some(BasicConstraints { is_ca, path_length });
            }
            oid::KEY_USAGE => {
                let bits = value.expect(tag::BIT_STRING)?.content;
                self.key_usage = Some([bits.get(1).copied().unwrap_or(0), bits.get(2).copied().unwrap_or(0)]);
            }
            oid::EXT_KEY_USAGE => {
                let mut parts = value.sequence()?;
                let mut purposes = Vec::new();
                while !parts.is_empty() {
                    purposes.push(place_in(der, parts.expect(tag::OID)?.content));
                }
                self.purposes = Some(purposes);
            }
            oid::SUBJECT_ALT_NAME => self.read_names(value.sequence()?, der)?,
            oid::SUBJECT_KEY_ID => {
                self.subject_key_id = Some(place_in(der, value.expect(tag::OCTET_STRING)?.content));
            }
            oid::AUTHORITY_KEY_ID => {
                if let Some(key) = value.sequence()?.optional(tag::context_plain(0))? {
                    self.authority_key_id = Some(place_in(der, key.content));
                }
            }
            oid::AUTHORITY_INFO_ACCESS => {
                let mut parts = value.sequence()?;
                while !parts.is_empty() {
                    let mut access = parts.sequence()?;
                    let is_ocsp = access.expect(tag::OID)?.content == oid::OCSP;
                    let place = access.element()?;
                    if is_ocsp && place.tag == tag::context_plain(6) && self.ocsp_url.is_none() {
                        self.ocsp_url = Some(place_in(der, place.content));
                    }
                }
            }
            oid::CRL_DISTRIBUTION_POINTS | oid::CERTIFICATE_POLICIES => {}
            _ => self.has_unknown_critical |= is_critical,
        }
        Ok(())
    }

    fn read_names(&mut self, mut names: Reader<'_>, der: &[u8]) -> Result<(), Malformed> {
        while !names.is_empty() {
            let name: Element<'_> = names.element()?;
            if self.dns_names.len() + self.addresses.len() >= MOST_NAMES {
                return Err(Malformed);
            }
            match name.tag {
                0x82 => self.dns_names.push(place_in(der, name.content)),
                0x87 => self.addresses.push(place_in(der, name.content)),
                _ => {}
            }
        }
        Ok(())
    }

    fn at(&self, place: &Range<usize>) -> &[u8] {
        self.der.get(place.clone()).unwrap_or_default()
    }

    /// All of it.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What was signed.
    pub fn tbs(&self) -> &[u8] {
        self.at(&self.tbs)
    }

    /// The serial number, big-endian.
    pub fn serial(&self) -> &[u8] {
        self.at(&self.serial)
    }

    /// What the algorithm identifier of the signature holds.
    pub fn algorithm(&self) -> &[u8] {
        self.at(&self.algorithm)
    }

    /// The issuer's name, as DER.
    pub fn issuer(&self) -> &[u8] {
        self.at(&self.issuer)
    }

    /// The subject's name, as DER.
    pub fn subject(&self) -> &[u8] {
        self.at(&self.subject)
    }

    /// The public key with its algorithm, as DER.
    pub fn public_key(&self) -> &[u8] {
        self.at(&self.public_key)
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        self.at(&self.signature)
    }

    /// DNS names of `subjectAltName`.
    pub fn dns_names(&self) -> impl Iterator<Item = &[u8]> {
        self.dns_names.iter().map(|place| self.at(place))
    }

    /// IP addresses of `subjectAltName`, four or sixteen bytes each.
    pub fn addresses(&self) -> impl Iterator<Item = &[u8]> {
        self.addresses.iter().map(|place| self.at(place))
    }

    /// `subjectKeyIdentifier`.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_ref().map(|place| self.at(place))
    }

    /// The key of `authorityKeyIdentifier`.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_ref().map(|place| self.at(place))
    }

    /// The URL of the issuer's OCSP responder.
    pub fn ocsp_url(&self) -> Option<&[u8]> {
        self.ocsp_url.as_ref().map(|place| self.at(place))
    }

    /// Whether it may be used for this purpose: it names none, or this one, or any.
    pub fn allows(&self, purpose: &[u8]) -> bool {
        self.purposes.as_ref().is_none_or(|purposes| {
            purposes.iter().map(|place| self.at(place)).any(|own| own == purpose || own == oid::ANY_PURPOSE)
        })
    }

    /// Whether it names this purpose itself.
    pub fn names_purpose(&self, purpose: &[u8]) -> bool {
        self.purposes.iter().flatten().any(|place| self.at(place) == purpose)
    }

    /// Whether issuer and subject are the same.
    pub fn is_self_issued(&self) -> bool {
        self.issuer() == self.subject()
    }

    /// The bits of the public key, as they are hashed for OCSP.
    pub fn key_bits(&self) -> Result<&[u8], Malformed> {
        let mut reader = Reader::new(self.public_key()).sequence()?;
        reader.expect(tag::SEQUENCE)?;
        reader.bits()
    }

    /// The common names of the subject.
    pub fn common_names(&self) -> Vec<&[u8]> {
        let mut found = Vec::new();
        let Ok(mut sets) = Reader::new(self.subject()).sequence() else { return found };
        while let Ok(set) = sets.expect(tag::SET) {
            let mut parts = set.reader();
            while let Ok(mut part) = parts.sequence() {
                if let (Ok(id), Ok(value)) = (part.expect(tag::OID), part.element())
                    && id.content == oid::COMMON_NAME
                {
                    found.push(value.content);
                }
            }
        }
        found
    }
}

/// Where `part` lies within `whole`, which it was cut from.
fn place_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}
