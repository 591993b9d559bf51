//! `ngx_http_ssi_module`: server side includes, pages with commands that are obeyed on the way out.
//!
//! A page is never held as a whole; what it includes is asked for at once, whatever stands in front of it.

mod command;
mod common;
mod condition;
mod dates;
mod include;
mod page;
mod parse;
mod text;

use conf::{Arity, Contexts};
use http::conf::Location;
use http::conf::TypeSet;
use http::filters::{Filtered, HeaderFilter};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, flag, row, size, without_effect};
use proto::h1::Known;

use self::page::Page;

/// `ngx_http_ssi_filter_module`.
pub struct Ssi;

static SLOT: Slot = Slot::new();

/// Settings of the module in one block.
#[derive(Clone, Default)]
pub struct SsiSettings {
    is_on: bool,
    is_silent: bool,
    keeps_last_modified: bool,
    min_file_chunk: u64,
    value_length: usize,
    types: TypeSet,
}

impl Settings for SsiSettings {
    fn enter(&mut self) {
        self.types.enter();
    }
}

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<SsiSettings>; 7] = [
    flag("ssi", ALL.or(Contexts::IF_LOCATION), "off", "Obeys the commands in pages.", |s, v| s.is_on = v),
    flag("ssi_silent_errors", ALL, "off", "Puts out nothing for commands that fail.", |s, v| s.is_silent = v),
    flag("ssi_last_modified", ALL, "off", "Keeps Last-Modified of a page.", |s, v| s.keeps_last_modified = v),
    size("ssi_min_file_chunk", ALL, "1k", "Least part of a page that is sent from its file.", |s, v| {
        s.min_file_chunk = v as u64
    }),
    // nginx documents 256 and takes one less.
    size("ssi_value_length", ALL, "255", "Longest value of a parameter.", |s, v| s.value_length = v),
    row("ssi_types", ALL, Arity::MORE1, "text/html", "Types of pages with commands.", |s, cx, d| {
        s.types.add(cx, d, &["text/html"]);
        Ok(())
    }),
    without_effect("ssi_ignore_recycled_buffers", ALL, Arity::FLAG, "no buffer is held back here"),
];

impl Module for Ssi {
    const NAME: &'static str = "ngx_http_ssi_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = SsiSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
        registry.variables(&dates::VARIABLES);
    }
}

impl HeaderFilter for Ssi {
    fn concerns(&self, location: &Location) -> bool {
        location.settings::<Self>().is_on
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().settings::<Self>();
        if r.response.content_length == Some(0) || !settings.types.matches(&r.response) {
            return Filtered::Next;
        }
        let page = Page::new(settings);
        let keeps_last_modified = settings.keeps_last_modified;
        r.output.add_filter(Box::new(page));
        r.output.expect_subrequests();
        if r.is_subrequest {
            return Filtered::Next;
        }
        let response = &mut r.response;
        response.clear_content_length();
        response.clear_accept_ranges();
        if keeps_last_modified {
            response.weaken_etag();
        } else {
            response.set_last_modified(None);
            response.headers.remove_known(Known::LastModified);
            response.headers.remove_known(Known::ETag);
        }
        Filtered::Next
    }
}
