//! nginx's http modules, one file or folder each, and their order.
//!
//! A new module is its file and its line in [`registry`].

pub mod access;
pub mod addition;
pub mod api;
pub mod auth_basic;
pub mod auth_jwt;
pub mod auth_request;
pub mod auth_require;
pub mod autoindex;
pub mod brotli;
pub mod browser;
pub mod charset;
pub mod dav;
mod directory;
pub mod empty_gif;
pub mod fastcgi;
pub mod flv;
pub mod geo;
pub mod grpc;
pub mod gunzip;
pub mod gzip;
pub mod headers;
pub mod headers_more;
pub mod index;
pub mod internal_redirect;
pub mod limit_conn;
pub mod limit_req;
pub mod log;
pub mod map;
pub mod memcached;
pub mod mirror;
pub mod mp4;
pub mod not_modified;
pub mod postpone;
pub mod precompressed;
pub mod proxy;
pub mod random_index;
pub mod range;
pub mod realip;
pub mod referer;
pub mod rewrite;
pub mod scgi;
pub mod secure_link;
pub mod slice;
pub mod split_clients;
pub mod ssi;
pub mod ssl;
pub mod static_files;
pub mod stub_status;
pub mod sub;
#[cfg(test)]
mod testing;
pub mod try_files;
pub mod tunnel;
pub mod upstream;
pub mod upstream_hc;
pub mod userid;
pub mod uwsgi;
pub mod zstd;

use http::Registry;
use http::conf::core::Core;
use http::server::h2::Http2;

/// All modules. Their order is that of nginx: of the handlers of a phase, of content handlers, of header filters.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add::<Core>();
    registry.add::<Http2>();
    // PostRead, Rewrite, PreAccess, Access and Log; variables.
    registry.add::<rewrite::Rewrite>();
    registry.add::<realip::Realip>();
    registry.add::<limit_req::LimitReq>();
    registry.add::<limit_conn::LimitConn>();
    registry.add::<access::Access>();
    registry.add::<auth_basic::AuthBasic>();
    registry.add::<auth_jwt::AuthJwt>();
    registry.add::<auth_request::AuthRequest>();
    registry.add::<auth_require::AuthRequire>();
    registry.add::<log::Log>();
    registry.add::<browser::Browser>();
    registry.add::<geo::Geo>();
    registry.add::<map::Map>();
    registry.add::<split_clients::SplitClients>();
    registry.add::<referer::Referer>();
    registry.add::<secure_link::SecureLink>();
    registry.add::<ssl::Ssl>();
    // PreContent.
    registry.add::<internal_redirect::InternalRedirect>();
    registry.add::<try_files::TryFiles>();
    registry.add::<mirror::Mirror>();
    registry.add::<upstream::Upstream>();
    registry.add::<upstream_hc::UpstreamHc>();
    // Content: of a location, then of all locations.
    registry.add::<stub_status::StubStatus>();
    registry.add::<api::Api>();
    registry.add::<proxy::Proxy>();
    registry.add::<fastcgi::Fastcgi>();
    registry.add::<uwsgi::Uwsgi>();
    registry.add::<scgi::Scgi>();
    registry.add::<grpc::Grpc>();
    registry.add::<memcached::Memcached>();
    registry.add::<tunnel::Tunnel>();
    registry.add::<empty_gif::EmptyGif>();
    registry.add::<flv::Flv>();
    registry.add::<mp4::Mp4>();
    registry.add::<random_index::RandomIndex>();
    registry.add::<index::Index>();
    registry.add::<autoindex::Autoindex>();
    registry.add::<dav::Dav>();
    registry.add::<precompressed::Beside<precompressed::Zstd>>();
    registry.add::<precompressed::Beside<precompressed::Brotli>>();
    registry.add::<precompressed::Beside<precompressed::Gzip>>();
    registry.add::<static_files::Static>();
    // Header filters. Those in front of Postpone act on one request's output, those behind it on all of the answer.
    registry.add::<slice::Slice>();
    registry.add::<not_modified::NotModified>();
    registry.add::<headers_more::HeadersMore>();
    registry.add::<headers::Headers>();
    registry.add::<userid::Userid>();
    registry.add::<gunzip::Gunzip>();
    registry.add::<addition::Addition>();
    registry.add::<sub::Sub>();
    registry.add::<charset::Charset>();
    registry.add::<ssi::Ssi>();
    registry.add::<postpone::Postpone>();
    registry.add::<zstd::Zstd>();
    registry.add::<brotli::Brotli>();
    registry.add::<gzip::Gzip>();
    registry.add::<range::Range>();
    registry
}

#[cfg(test)]
mod tests {
    use conf::{Contexts, Edition, documented};

    /// A row may allow more than nginx does, and never less: a configuration that nginx takes would be refused.
    #[test]
    fn every_directive_stands_wherever_nginx_lets_it_and_takes_what_nginx_takes() {
        const HTTP: [Contexts; 7] = [
            Contexts::HTTP,
            Contexts::SERVER,
            Contexts::LOCATION,
            Contexts::UPSTREAM,
            Contexts::IF_SERVER,
            Contexts::IF_LOCATION,
            Contexts::LIMIT_EXCEPT,
        ];
        let registry = super::registry();
        let rows: Vec<_> = registry.rows().collect();
        let mut wrong = Vec::new();
        let is_ours = |module: &str| module.starts_with("ngx_http_");
        for known in documented().filter(|known| known.edition == Edition::Open && is_ours(known.row.module))
        {
            let here: Vec<_> = rows
                .iter()
                .filter(|row| row.name == known.row.name && row.contexts.has(known.row.contexts))
                .collect();
            if here.is_empty() {
                continue;
            }
            let contexts = here.iter().fold(Contexts::NOWHERE, |all, row| all.or(row.contexts));
            for context in HTTP.into_iter().filter(|context| known.row.contexts.has(*context)) {
                if !contexts.has(context) {
                    wrong.push(format!("{}: not in {context}", known.row.name));
                }
            }
            for count in 0..8 {
                if known.row.arity.allows(count) && !here.iter().any(|row| row.arity.allows(count)) {
                    wrong.push(format!("{}: not with {count} arguments", known.row.name));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
