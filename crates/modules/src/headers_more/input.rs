//! Fields of requests: `more_set_input_headers` and `more_clear_input_headers`, at the end of the rewrite phase.
//!
//! How the request's body is delimited was decided when the head came in; no field that is set here changes it.

use std::sync::Arc;

use http::conf::Location;
use http::phases::{Outcome, PhaseHandler, Verdict};
use http::request::Request;
use proto::h1::Known;

use super::{Command, HeadersMore, How};

impl PhaseHandler for HeadersMore {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().input.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let settings = r.location().settings::<Self>();
        let commands = Arc::clone(&settings.input);
        for command in commands.iter() {
            if !is_meant(command, r) {
                continue;
            }
            for field in &command.fields {
                let value = field.value.line(r);
                let is_meant = |name: &[u8]| field.is_meant(name);
                if value.is_empty() {
                    r.remove_headers(is_meant);
                } else if field.known == Known::Host && r.set_host(&value).is_err() {
                    return Verdict::Finish(Outcome::Status(500));
                } else if !field.is_prefix
                    && (r.replace_headers(is_meant, &value) || command.how == How::Replace)
                {
                    // It is done, or there was nothing to replace.
                } else if !field.is_prefix {
                    r.push_header(&field.name, &value);
                }
            }
        }
        Verdict::Declined
    }
}

fn is_meant(command: &Command, r: &Request) -> bool {
    let kind = r.header(Known::ContentType).unwrap_or_default();
    command.types.is_empty() || command.types.iter().any(|wanted| **wanted == *kind)
}
