//! What an answer to a health check must be (`match`), and what it must be where nothing is said.
//!
//! Every condition must hold; the body is looked at as far as it was read.

use os::errlog::Level;

use crate::regex::Regex;
use crate::request::Request;
use crate::variables::{VariableId, name_matches};

/// The conditions of one `match` block.
#[derive(Clone, Default)]
pub struct Expect {
    /// `status`.
    pub status: Option<Statuses>,
    /// `header`.
    pub headers: Vec<Header>,
    /// `body`.
    pub body: Vec<Text>,
    /// `require`: variables that are not empty and not `0`.
    pub require: Vec<VariableId>,
}

/// Statuses of which the answer's is one, or is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses {
    /// Whether it must be among them.
    pub must: Must,
    /// From and up to.
    pub ranges: Vec<(u16, u16)>,
}

/// Whether something must be so or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// It must.
    Be,
    /// `!`: it must not.
    NotBe,
}

/// What a field of the answer must be.
#[derive(Clone)]
pub struct Header {
    /// Its name.
    pub name: Box<[u8]>,
    /// What it must be.
    pub value: HeaderTest,
}

/// What a field must be.
#[derive(Clone)]
pub enum HeaderTest {
    /// There, or not.
    There(Must),
    /// Equal, or not; also where it is not there.
    Equals(Must, Box<[u8]>),
    /// Matched, or not.
    Matches(Text),
}

/// A pattern that a text must match, or must not.
#[derive(Clone)]
pub struct Text {
    /// Whether it must.
    pub must: Must,
    /// The pattern.
    pub pattern: Regex,
}

impl Must {
    fn holds(self, is_so: bool) -> bool {
        is_so == (self == Self::Be)
    }
}

impl Statuses {
    fn hold(&self, status: u16) -> bool {
        self.must.holds(self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&status)))
    }
}

impl Header {
    fn holds(&self, r: &Request) -> bool {
        let head = &r.upstream_head;
        let mut values = head
            .head
            .fields
            .iter()
            .filter(|field| name_matches(field.name.of(&head.text), &self.name))
            .map(|field| field.value.of(&head.text));
        match &self.value {
            HeaderTest::There(must) => must.holds(values.next().is_some()),
            HeaderTest::Equals(must, text) => must.holds(values.any(|value| *value == **text)),
            HeaderTest::Matches(text) => text.must.holds(values.any(|value| text.pattern.is_match(value))),
        }
    }
}

impl Expect {
    /// Whether a body decides.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// Whether the answer is as it must be; if not, what of it is wrong, in nginx's words.
    ///
    /// # Errors
    /// What was being checked.
    pub fn test(&self, r: &Request, status: u16, body: &[u8]) -> Result<(), &'static str> {
        let status_holds = match &self.status {
            Some(statuses) => statuses.hold(status),
            // With conditions of other kinds alone, any status will do.
            None => !self.is_default() || (200..400).contains(&status),
        };
        if !status_holds {
            r.log(Level::Debug, format_args!("health check status {status}"));
            return Err("checking status code");
        }
        if !self.headers.iter().all(|header| header.holds(r)) {
            return Err("checking response headers");
        }
        if !self.require.iter().all(|id| r.variable(*id).is_some_and(|value| is_true(&value))) {
            return Err("checking variables");
        }
        if !self.body.iter().all(|text| text.must.holds(text.pattern.is_match(body))) {
            return Err("checking response body");
        }
        Ok(())
    }

    fn is_default(&self) -> bool {
        self.headers.is_empty() && self.body.is_empty() && self.require.is_empty()
    }
}

fn is_true(value: &[u8]) -> bool {
    !value.is_empty() && value != b"0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_their_opposite() {
        let check = |must, ranges: &[(u16, u16)], status, expected| {
            let statuses = Statuses { must, ranges: ranges.to_vec() };
            assert_eq!(statuses.hold(status), expected, "{statuses:?} {status}");
        };
        check(Must::Be, &[(200, 200)], 200, true);
        check(Must::Be, &[(200, 200)], 201, false);
        check(Must::Be, &[(301, 303), (307, 307)], 302, true);
        check(Must::Be, &[(301, 303), (307, 307)], 304, false);
        check(Must::NotBe, &[(400, 599)], 200, true);
        check(Must::NotBe, &[(400, 599)], 500, false);
    }
}
