//! Changing the fields of a request's head, for modules that let the operator do so.
//!
//! New text is appended to the head's bytes; what was sent stays where it is and is no longer pointed to.

use base::Span;
use proto::h1::{Field, Fields, Known};

use crate::request::Request;

impl Request {
    /// Removes every field whose name `is_meant`.
    pub fn remove_headers(&mut self, is_meant: impl Fn(&[u8]) -> bool) {
        let mut kept = Fields::default();
        for field in self.line.fields.iter().filter(|field| !is_meant(field.name.of(&self.head))) {
            kept.push(*field);
        }
        self.line.fields = kept;
    }

    /// Gives the first field whose name `is_meant` another value, and removes all others of them. Says whether there
    /// was any.
    pub fn replace_headers(&mut self, is_meant: impl Fn(&[u8]) -> bool, value: &[u8]) -> bool {
        let mut kept = Fields::default();
        let mut is_found = false;
        let value = self.append_to_head(value);
        for field in &self.line.fields {
            if !is_meant(field.name.of(&self.head)) {
                kept.push(*field);
            } else if !is_found {
                is_found = true;
                kept.push(field.with_value(value));
            }
        }
        self.line.fields = kept;
        is_found
    }

    /// Adds a field behind the others.
    pub fn push_header(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        let (name, value) = (self.append_to_head(name), self.append_to_head(value));
        self.line.fields.push(Field::new(name, value, known));
    }

    /// Takes another name for the one that the client asked for; its server stays.
    ///
    /// # Errors
    /// The text is no host.
    pub fn set_host(&mut self, text: &[u8]) -> Result<(), proto::uri::InvalidHost> {
        let host = proto::uri::validate_host(text)?;
        self.host.clear();
        self.host.extend_from_slice(&host.name);
        self.host_port = (host.port > 0).then_some(host.port);
        if !self.replace_headers(|name| name.eq_ignore_ascii_case(b"Host"), text) {
            self.push_header(b"Host", text);
        }
        Ok(())
    }

    fn append_to_head(&mut self, text: &[u8]) -> Span {
        let start = self.head.len();
        self.head.reserve(text.len());
        self.head.extend_from_slice(text);
        Span::new(start, self.head.len())
    }
}
