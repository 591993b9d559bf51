//! `$date_local` and `$date_gmt`, in the format that the page chose.

use std::ffi::CString;

use http::output::push_decimal;
use http::request::Request;
use http::variables::Variable;
use os::clock::Zone;

/// The format of a page that chose none.
const DEFAULT: &std::ffi::CStr = c"%A, %d-%b-%Y %H:%M:%S %Z";

/// `config timefmt`.
pub(super) struct Format(pub CString);

pub(super) static VARIABLES: [Variable; 2] = [
    Variable::new("date_local", |r, out| date(r, Zone::Local, out)),
    Variable::new("date_gmt", |r, out| date(r, Zone::Utc, out)),
];

fn date(r: &Request, zone: Zone, out: &mut Vec<u8>) -> bool {
    let (now, _) = net::timer::wall_clock();
    let format = r.contexts.get::<Format>().map_or(DEFAULT, |format| format.0.as_c_str());
    if format == c"%s" {
        push_decimal(now.unsigned_abs(), out);
        return true;
    }
    match os::clock::format(now, zone, format) {
        Some(text) => {
            out.extend_from_slice(&text);
            true
        }
        None => false,
    }
}
