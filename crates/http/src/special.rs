//! Answers that nginx makes itself: error pages, redirects, and `error_page` in their place
//! (`ngx_http_special_response.c`).

use proto::h1::{Known, Method, Version};

use crate::chunk::Chunk;
use crate::conf::core::{ErrorPage, Overwrite, ServerTokens};
use crate::phases::{Body, Outcome};
use crate::request::Request;
use crate::response::Response;
use crate::status::status_line;

/// Fills small pages up, since old browsers hide pages of less than 512 bytes.
const PADDING: &str = "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";

/// What a status becomes: another URI by `error_page`, or an answer of our own.
pub fn respond(r: &mut Request, status: u16) -> Outcome {
    r.error_status = status;
    if matches!(status, 400 | 413 | 414 | 495 | 496 | 497 | 500 | 501) {
        r.keepalive = false;
    }
    if matches!(status, 400 | 495 | 496 | 497) {
        r.lingering = false;
    }
    r.response.content_type.clear();
    let core = std::sync::Arc::clone(&r.location().core);
    if !r.error_page && !core.error_pages.is_empty() && r.uri_changes > 0 {
        if !core.recursive_error_pages {
            r.error_page = true;
        }
        if let Some(page) = core.error_pages.iter().find(|page| page.status == status) {
            return error_page(r, page);
        }
    }
    r.expects_continue.set(false);
    if r.keepalive && r.reader.is_open() && crate::process::has_broken_body(r) {
        r.keepalive = false;
    }
    if core.msie_refresh && matches!(status, 301 | 302) && is_msie(r) {
        return refresh(r);
    }
    page(r, status)
}

fn error_page(r: &mut Request, page_conf: &ErrorPage) -> Outcome {
    match page_conf.overwrite {
        Overwrite::Keep => {}
        // The page's own status stands; zero says so to the head.
        Overwrite::FromPage => r.error_status = 0,
        Overwrite::Status(status) => {
            r.error_status = status;
            if status != 200 {
                r.expects_continue.set(false);
            }
        }
    }
    let target = page_conf.target.value(r);
    match target.first() {
        Some(b'/') => {
            let (uri, args) = if page_conf.target.as_literal().is_some() {
                (target, page_conf.args.clone())
            } else {
                split_args(&target)
            };
            if r.method != Method::Head {
                r.method = Method::Get;
            }
            return Outcome::redirect(uri, args);
        }
        Some(b'@') => return Outcome::named(target),
        _ => {}
    }
    let status = match page_conf.overwrite {
        Overwrite::Status(status @ (301 | 302 | 303 | 307 | 308)) => status,
        _ => 302,
    };
    r.error_status = status;
    r.expects_continue.set(false);
    let mut target = target;
    proto::h1::keep_one_line(&mut target);
    r.response.headers.set_known(Known::Location, b"Location", &target);
    if r.location().core.msie_refresh && is_msie(r) {
        return refresh(r);
    }
    page(r, status)
}

/// Splits a URI at its question mark.
#[must_use]
pub fn split_args(uri: &[u8]) -> (Vec<u8>, Vec<u8>) {
    match memchr::memchr(b'?', uri) {
        Some(at) => (uri[..at].to_vec(), uri[at + 1..].to_vec()),
        None => (uri.to_vec(), Vec::new()),
    }
}

/// The page for a status; the head says 400 for nginx's own codes of bad requests.
fn page(r: &mut Request, status: u16) -> Outcome {
    if matches!(status, 494..=497) {
        r.error_status = 400;
    }
    let mut body = Vec::new();
    if let Some((title, heading)) = texts(status) {
        write_page(&mut body, &title, &heading, status);
        body.extend_from_slice(tail(r.location().core.server_tokens).as_bytes());
        if status >= 400
            && r.location().core.msie_padding
            && r.version() >= Version::HTTP_10
            && (is_msie(r) || is_chrome(r))
        {
            for _ in 0..6 {
                body.extend_from_slice(PADDING.as_bytes());
            }
        }
        r.response.content_type.extend_from_slice(b"text/html");
    }
    plain_body(r, body)
}

fn plain_body(r: &mut Request, body: Vec<u8>) -> Outcome {
    forget_entity(&mut r.response);
    r.response.content_length = Some(body.len() as u64);
    if body.is_empty() { Outcome::send(Body::Empty) } else { Outcome::send(Body::One(Chunk::copied(&body))) }
}

/// Drops what described the body of an answer that is not sent.
pub fn forget_entity(response: &mut Response) {
    response.headers.remove_where(|_, known| {
        matches!(known, Known::ContentLength | Known::AcceptRanges | Known::LastModified | Known::ETag)
    });
    response.ranges = crate::response::Ranges::Refused;
    response.set_last_modified(None);
    response.content_length = None;
    response.charset.clear();
}

/// Title and heading of the page for a status; `None` where nginx sends none.
fn texts(status: u16) -> Option<(String, String)> {
    let plain = |text: &str| Some((text.to_owned(), text.to_owned()));
    match status {
        494 => Some(("400 Request Header Or Cookie Too Large".into(), "400 Bad Request".into())),
        495 => Some(("400 The SSL certificate error".into(), "400 Bad Request".into())),
        496 => Some(("400 No required SSL certificate was sent".into(), "400 Bad Request".into())),
        497 => Some(("400 The plain HTTP request was sent to HTTPS port".into(), "400 Bad Request".into())),
        302 => plain("302 Found"),
        401 => plain("401 Authorization Required"),
        416 => plain("416 Requested Range Not Satisfiable"),
        304 | 425 | 426 => None,
        300..=599 => plain(status_line(status)?),
        _ => None,
    }
}

fn write_page(out: &mut Vec<u8>, title: &str, heading: &str, status: u16) {
    let second = match status {
        494 => "<center>Request Header Or Cookie Too Large</center>\r\n",
        495 => "<center>The SSL certificate error</center>\r\n",
        496 => "<center>No required SSL certificate was sent</center>\r\n",
        497 => "<center>The plain HTTP request was sent to HTTPS port</center>\r\n",
        _ => "",
    };
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n{second}"
    );
    out.extend_from_slice(page.as_bytes());
}

fn tail(tokens: ServerTokens) -> &'static str {
    match tokens {
        ServerTokens::On => {
            concat!("<hr><center>nginx/", base::nginx_version!(), "</center>\r\n</body>\r\n</html>\r\n")
        }
        ServerTokens::Off => "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
        ServerTokens::Build => concat!("<hr><center>", base::build!(), "</center>\r\n</body>\r\n</html>\r\n"),
    }
}

/// A page that refreshes to the place of a redirect (`msie_refresh`).
fn refresh(r: &mut Request) -> Outcome {
    let location = r.response.headers.known(Known::Location).unwrap_or_default().to_vec();
    let mut body = b"<html><head><meta http-equiv=\"Refresh\" content=\"0; URL=".to_vec();
    proto::uri::escape(&location, proto::uri::EscapeKind::Refresh, &mut body);
    body.extend_from_slice(b"\"></head><body></body></html>\r\n");
    r.error_status = 200;
    r.response.headers.remove_known(Known::Location);
    r.response.content_type.extend_from_slice(b"text/html");
    plain_body(r, body)
}

/// The client says that it is an MSIE (`ngx_http_process_user_agent`).
#[must_use]
pub fn is_msie(r: &Request) -> bool {
    r.header(Known::UserAgent).is_some_and(|agent| contains(agent, b"MSIE ") && !contains(agent, b"Opera"))
}

fn is_chrome(r: &Request) -> bool {
    r.header(Known::UserAgent).is_some_and(|agent| !contains(agent, b"Opera") && contains(agent, b"Chrome/"))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_say_what_nginx_says() {
        let check = |status, expected: Option<&str>| {
            assert_eq!(texts(status).map(|(title, _)| title).as_deref(), expected, "{status}");
        };
        check(404, Some("404 Not Found"));
        check(302, Some("302 Found"));
        check(494, Some("400 Request Header Or Cookie Too Large"));
        check(304, None);
        check(401, Some("401 Authorization Required"));
        check(426, None);
        check(418, None);
        check(204, None);
        assert_eq!(split_args(b"/a?b=c?"), (b"/a".to_vec(), b"b=c?".to_vec()));
    }
}
