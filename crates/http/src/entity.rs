//! What describes the body of a file: its media type and its ETag.

use std::sync::Arc;

use proto::h1::Known;

use crate::output::push_decimal;
use crate::request::Request;

impl Request {
    /// Sets the content type by the extension of the URI, unless it is set (`ngx_http_set_content_type`).
    pub fn set_content_type(&mut self) {
        if !self.response.content_type.is_empty() {
            return;
        }
        let core = Arc::clone(&self.location().core);
        let by_extension = proto::uri::extension(&self.uri).and_then(|extension| core.types.find(extension));
        self.response.content_type.extend_from_slice(by_extension.unwrap_or(&core.default_type));
    }

    /// Makes an ETag of the answer's time and length, where `etag` is on (`ngx_http_set_etag`).
    pub fn set_etag(&mut self) {
        if !self.location().core.etag {
            return;
        }
        let (time, length) = (self.response.last_modified().unwrap_or(-1), self.response.content_length);
        self.response.headers.push_with(Known::ETag, b"ETag", |out| {
            out.extend_from_slice(format!("\"{time:x}-{:x}\"", length.unwrap_or(0)).as_bytes());
        });
    }

    /// Appends a `Content-Range` field in place of any other.
    pub fn set_content_range(&mut self, range: Option<(u64, u64)>, length: u64) {
        self.response.headers.remove_known(Known::ContentRange);
        self.response.headers.push_with(Known::ContentRange, b"Content-Range", |out| {
            out.extend_from_slice(b"bytes ");
            match range {
                Some((start, end)) => {
                    push_decimal(start, out);
                    out.push(b'-');
                    push_decimal(end.saturating_sub(1), out);
                }
                None => out.push(b'*'),
            }
            out.push(b'/');
            push_decimal(length, out);
        });
    }
}
