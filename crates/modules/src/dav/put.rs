//! PUT and MKCOL: what makes new files and directories.

use http::body_file::{self, BodyFile};
use http::paths::map_uri;
use http::phases::{Body, Outcome};
use http::request::Request;
use os::errlog::Level;
use os::errno;
use os::transfer::{self, Failure, Parents, directory_access};

use super::{DavSettings, as_path, failure, field, has_body, is_collection, refuse, set_location};

pub(super) async fn put(r: &mut Request, settings: DavSettings) -> Outcome {
    if is_collection(&r.uri) {
        return refuse(r, 409, format_args!("cannot PUT to a collection"));
    }
    if field(r, b"Content-Range").is_some() {
        return refuse(r, 501, format_args!("PUT with range is unsupported"));
    }
    let body = match body_file::read_to_file(r).await {
        Ok(body) => body,
        Err(outcome) => return outcome,
    };
    let path = match map_uri(r) {
        Ok(mapped) => mapped.full,
        Err(status) => return Outcome::Status(status),
    };
    let status = match os::file::path_info(as_path(&path)) {
        Err(_) => 201,
        Ok(info) if !info.is_dir() => 204,
        Ok(_) => {
            let shown = String::from_utf8_lossy(&path);
            let error = std::io::Error::from_raw_os_error(errno::EISDIR);
            let reason = os::errlog::Errno(&error);
            return refuse(r, 409, format_args!("\"{shown}\" could not be created {reason}"));
        }
    };
    if let Err(failure) = settle(r, &body, &path, settings) {
        r.log(Level::Crit, format_args!("{failure}"));
        return Outcome::Status(500);
    }
    if status == 201 {
        set_location(r);
        r.response.content_length = Some(0);
    }
    r.response.status = status;
    r.response.header_only = true;
    Outcome::send(Body::Empty)
}

/// Gives the body its permissions, the client's time, and its name.
fn settle(r: &Request, body: &BodyFile, path: &[u8], settings: DavSettings) -> Result<(), Failure> {
    transfer::set_access(body.path(), settings.access)?;
    if let Some(mtime) = field(r, b"Date").and_then(proto::date::parse) {
        transfer::set_mtime(body.path(), mtime)?;
    }
    let parents = if settings.create_full_put_path {
        Parents::Made(directory_access(settings.access))
    } else {
        Parents::Required
    };
    transfer::rename(body.path(), as_path(path), parents)
}

pub(super) fn make_collection(r: &mut Request, settings: DavSettings) -> Outcome {
    if has_body(r) {
        return refuse(r, 415, format_args!("MKCOL with body is unsupported"));
    }
    if !is_collection(&r.uri) {
        return refuse(r, 409, format_args!("MKCOL can create a collection only"));
    }
    let mut path = match map_uri(r) {
        Ok(mapped) => mapped.full,
        Err(status) => return Outcome::Status(status),
    };
    path.pop();
    match transfer::create_dir(as_path(&path), directory_access(settings.access)) {
        Ok(()) => {
            set_location(r);
            Outcome::Status(201)
        }
        Err(error) => Outcome::Status(failure(r, "mkdir()", &path, &error, 409)),
    }
}
