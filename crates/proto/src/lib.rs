//! HTTP/1, HTTP/2, CGI heads and what carries them (FastCGI, uwsgi, SCGI), memcached, URIs, dates, ranges and the
//! PROXY protocol: bytes in, messages out.
//!
//! Nothing here reads a socket or a clock; what is accepted and refused follows nginx's own parsers.

pub mod cgi;
pub mod client_hello;
pub mod date;
pub mod fastcgi;
pub mod h1;
pub mod h2;
pub mod haproxy;
pub mod memcached;
pub mod range;
pub mod scgi;
pub mod uri;
pub mod uwsgi;
