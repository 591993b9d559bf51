//! `$jwt_header_*`, `$jwt_claim_*`, `$jwt_payload`, and variables that the configuration defines.

use http::request::Request;
use http::variables::{Compute, PrefixVariable, Variable};
use serde_json::Value;

use super::token::{Token, push_value};

pub(super) static VARIABLES: [Variable; 1] = [Variable::new("jwt_payload", |r, out| {
    let token = r.lasting.get::<Token>();
    out.extend_from_slice(token.map_or(&[][..], |token| &*token.payload));
    token.is_some()
})];

pub(super) static PREFIXES: [PrefixVariable; 2] = [
    PrefixVariable { prefix: "jwt_header_", read: |r, name, out| push(r, Part::Header, [name], out) },
    PrefixVariable { prefix: "jwt_claim_", read: |r, name, out| push(r, Part::Claims, [name], out) },
];

/// The two objects of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Header,
    Claims,
}

/// A variable of `auth_jwt_claim_set` or `auth_jwt_header_set`.
pub(super) struct Claim {
    pub(super) part: Part,
    /// Names of members, from the outermost.
    pub(super) path: Vec<String>,
}

impl Compute for Claim {
    fn compute(&self, r: &Request, out: &mut Vec<u8>) -> bool {
        push(r, self.part, self.path.iter().map(String::as_bytes), out)
    }
}

fn push<'n>(r: &Request, part: Part, path: impl IntoIterator<Item = &'n [u8]>, out: &mut Vec<u8>) -> bool {
    let Some(token) = r.lasting.get::<Token>() else { return false };
    let mut value: Option<&Value> = Some(match part {
        Part::Header => &token.header,
        Part::Claims => &token.claims,
    });
    for name in path {
        value = std::str::from_utf8(name).ok().and_then(|name| value?.get(name));
    }
    push_value(value, out)
}
