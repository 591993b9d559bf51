//! `ngx_http_postpone_filter_module`: where the outputs of subrequests take their places among the filters.
//!
//! Filters of modules before it in the registry see one request's own output, those behind it all of the answer.

use http::filters::{Filtered, HeaderFilter};
use http::module::{Module, Registry, Slot};
use http::request::Request;
use http::subrequest::Join;

/// `ngx_http_postpone_filter_module`.
pub struct Postpone;

static SLOT: Slot = Slot::new();

impl Module for Postpone {
    const NAME: &'static str = "ngx_http_postpone_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }
}

impl HeaderFilter for Postpone {
    fn filter(&self, r: &mut Request) -> Filtered {
        if r.output.expects_subrequests() && !r.is_subrequest {
            r.output.add_filter(Box::new(Join));
        }
        Filtered::Next
    }
}
