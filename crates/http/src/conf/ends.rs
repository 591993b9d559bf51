//! What is wrong with blocks as a whole, and which of it nginx finds first.
//!
//! nginx looks at this when the `http` block ends: module by module in the order in which it is built, then at names of
//! variables, then at addresses. Here blocks are finished one by one, so all is gathered and the first is told.

use conf::{Error, Order};

/// The modules of nginx that find something at the end, in its order (`auto/modules`).
const MODULES: [&str; 53] = [
    "ngx_http_core_module",
    "ngx_http_log_module",
    "ngx_http_upstream_module",
    "ngx_http_v2_module",
    "ngx_http_static_module",
    "ngx_http_gzip_static_module",
    "ngx_http_dav_module",
    "ngx_http_autoindex_module",
    "ngx_http_index_module",
    "ngx_http_random_index_module",
    "ngx_http_mirror_module",
    "ngx_http_try_files_module",
    "ngx_http_auth_request_module",
    "ngx_http_auth_basic_module",
    "ngx_http_access_module",
    "ngx_http_limit_conn_module",
    "ngx_http_limit_req_module",
    "ngx_http_realip_module",
    "ngx_http_geo_module",
    "ngx_http_map_module",
    "ngx_http_split_clients_module",
    "ngx_http_referer_module",
    "ngx_http_rewrite_module",
    "ngx_http_ssl_module",
    "ngx_http_proxy_module",
    "ngx_http_fastcgi_module",
    "ngx_http_uwsgi_module",
    "ngx_http_scgi_module",
    "ngx_http_grpc_module",
    "ngx_http_tunnel_module",
    "ngx_http_memcached_module",
    "ngx_http_empty_gif_module",
    "ngx_http_browser_module",
    "ngx_http_secure_link_module",
    "ngx_http_flv_module",
    "ngx_http_mp4_module",
    "ngx_http_upstream_hc_module",
    "ngx_http_stub_status_module",
    "ngx_http_api_module",
    "ngx_http_range_header_filter_module",
    "ngx_http_gzip_filter_module",
    "ngx_http_zstd_filter_module",
    "ngx_http_brotli_filter_module",
    "ngx_http_postpone_filter_module",
    "ngx_http_ssi_filter_module",
    "ngx_http_charset_filter_module",
    "ngx_http_sub_filter_module",
    "ngx_http_addition_filter_module",
    "ngx_http_gunzip_filter_module",
    "ngx_http_userid_filter_module",
    "ngx_http_headers_filter_module",
    "ngx_http_not_modified_filter_module",
    "ngx_http_slice_filter_module",
];

/// What is looked at, in nginx's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// The settings of a module, by its place among all.
    Module(usize),
    /// Whether addresses under TLS have certificates.
    Certificates,
    /// Whether variables are defined.
    Variables,
    /// The names of servers.
    Names,
}

impl End {
    /// The settings of this module; those that nginx does not know come last.
    pub(super) fn of(module: &str) -> Self {
        Self::Module(MODULES.iter().position(|known| *known == module).unwrap_or(MODULES.len()))
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Ends(Vec<(End, Error)>);

impl Ends {
    /// Takes what was found, if anything; the good outcome otherwise.
    pub(super) fn take<T>(&mut self, end: End, found: Result<T, Error>) -> Option<T> {
        found.map_err(|error| self.0.push((end, error.found(Order::END_OF_BLOCK)))).ok()
    }

    /// Whether there is nothing.
    ///
    /// # Errors
    /// What nginx finds first; of what it finds after the text, nothing before all else is right.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let first = self.0.iter().min_by_key(|(end, error)| (error.order, *end));
        first.map_or(Ok(()), |(_, error)| Err(error.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nginx_finds_first_is_told() {
        let mut ends = Ends::default();
        assert!(ends.settle().is_ok());
        let mut find = |end: End, sentence: &str, order: Order| {
            assert_eq!(ends.take(end, Err::<(), _>(Error::bare(sentence).found(order))), None);
            ends.settle().expect_err("found").to_string()
        };
        assert_eq!(find(End::Names, "zone", Order::END_OF_TEXT), "zone");
        assert_eq!(find(End::Variables, "variable", Order::END_OF_BLOCK), "variable");
        assert_eq!(find(End::of("ngx_http_ssl_module"), "certificate", Order::END_OF_BLOCK), "certificate");
        assert_eq!(find(End::of("ngx_http_x_module"), "x", Order::END_OF_BLOCK), "certificate");
        assert_eq!(find(End::of("ngx_http_upstream_module"), "port", Order::END_OF_BLOCK), "port");
        assert_eq!(find(End::of("ngx_http_ssl_module"), "line", Order(7)), "line");
    }
}
