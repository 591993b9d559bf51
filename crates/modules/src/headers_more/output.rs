//! Fields of answers: `more_set_headers` and `more_clear_headers`.
//!
//! Some are no lines of the answer yet but facts that its head is written from; those are changed in their place.

use std::sync::Arc;

use http::conf::Location;
use http::filters::{Filtered, HeaderFilter};
use http::phases::Outcome;
use http::request::Request;
use http::response::Ranges;
use proto::h1::Known;

use super::{Command, Field, HeadersMore, How};

/// Fields that an answer has once, so that they can be set but not added to.
pub(super) fn is_single(known: Known) -> bool {
    matches!(
        known,
        Known::Server
            | Known::Date
            | Known::ContentEncoding
            | Known::Location
            | Known::Refresh
            | Known::LastModified
            | Known::ContentRange
            | Known::AcceptRanges
            | Known::WwwAuthenticate
            | Known::Expires
            | Known::ContentLength
            | Known::ContentType
            | Known::CacheControl
    )
}

impl HeaderFilter for HeadersMore {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().output.is_empty()
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().settings::<Self>();
        let commands = Arc::clone(&settings.output);
        for command in commands.iter() {
            if !command.is_meant(r) {
                continue;
            }
            for field in &command.fields {
                let value = field.value.line(r);
                if set(r, field, &value, command.how).is_none() {
                    return Filtered::Instead(Outcome::Broken(0));
                }
            }
        }
        Filtered::Next
    }
}

impl Command {
    fn is_meant(&self, r: &Request) -> bool {
        let response = &r.response;
        (self.types.is_empty() || self.types.iter().any(|kind| **kind == *response.content_type))
            && (self.statuses.is_empty() || self.statuses.contains(&response.status))
    }
}

/// Sets or clears a field; `None` for a length that is none.
fn set(r: &mut Request, field: &Field, value: &[u8], how: How) -> Option<()> {
    let response = &mut r.response;
    if how == How::Append {
        if !value.is_empty() {
            response.headers.push_known(field.known, &field.name, value);
        }
        return Some(());
    }
    match field.known {
        Known::ContentType => {
            response.content_type.clear();
            response.content_type.extend_from_slice(value);
            response.has_type_parameters = true;
            return Some(());
        }
        Known::ContentLength if value.is_empty() => {
            response.clear_content_length();
            return Some(());
        }
        Known::ContentLength => response.content_length = Some(conf::parse_number(value)?),
        Known::AcceptRanges if value.is_empty() => response.ranges = Ranges::Refused,
        Known::LastModified if value.is_empty() => response.set_last_modified(None),
        Known::Server => response.omits_server = value.is_empty(),
        Known::Date => response.omits_date = value.is_empty(),
        _ => {}
    }
    let headers = &mut response.headers;
    if value.is_empty() {
        headers.remove_where(|name, _| field.is_meant(name));
    } else if is_single(field.known) && field.known != Known::CacheControl {
        headers.set_known(field.known, &field.name, value);
    } else if !headers.replace_where(|name| field.is_meant(name), value) && !field.is_prefix {
        headers.push_known(field.known, &field.name, value);
    }
    Some(())
}
