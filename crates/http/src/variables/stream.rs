//! The variables of `stream`'s core module (`ngx_stream_variables.c`).
//!
//! A session is a request without a head, so most are read as those of a request are.

use conf::resources::SocketKind;

use super::core::{decimal, hostname, push_status, seconds, text};
use super::{PrefixVariable, Variable, address, clock};

/// Every variable of the core module whose name is fixed.
pub static VARIABLES: [Variable; 22] = [
    Variable::new("binary_remote_addr", address::binary_remote_addr),
    Variable::new("remote_addr", address::remote_addr),
    Variable::new("remote_port", address::remote_port),
    Variable::new("proxy_protocol_addr", address::proxy_protocol_addr),
    Variable::new("proxy_protocol_port", address::proxy_protocol_port),
    Variable::new("proxy_protocol_server_addr", address::proxy_protocol_server_addr),
    Variable::new("proxy_protocol_server_port", address::proxy_protocol_server_port),
    Variable::new("server_addr", address::server_addr),
    Variable::new("server_port", address::server_port),
    Variable::new("server_name", |r, out| text(&r.server().name, out)),
    Variable::new("bytes_sent", |r, out| decimal(r.output.sent, out)),
    Variable::new("bytes_received", |r, out| decimal(r.received, out)),
    Variable::new("session_time", |r, out| seconds(r.elapsed_ms(), out)),
    Variable::new("status", |r, out| {
        // One that has not ended has none, which is no mistake of HTTP/0.9.
        if r.response.status == 0 {
            return text(b"000", out);
        }
        push_status(r, out);
        true
    }),
    Variable::new("connection", |r, out| decimal(r.conn.number, out)),
    Variable::new("nginx_version", |_, out| text(base::nginx_version!().as_bytes(), out)),
    Variable::new("hostname", hostname),
    Variable::new("pid", |_, out| decimal(u64::from(std::process::id()), out)),
    Variable::new("msec", |_, out| {
        clock::push_msec(out);
        true
    }),
    Variable::new("time_iso8601", |_, out| {
        clock::push_time_iso8601(out);
        true
    }),
    Variable::new("time_local", |_, out| {
        clock::push_time_local(out);
        true
    }),
    Variable::new("protocol", |r, out| match r.conn.kind {
        SocketKind::Stream => text(b"TCP", out),
        SocketKind::Datagram => text(b"UDP", out),
    }),
];

/// The families of variables of the core module.
pub static PREFIXES: [PrefixVariable; 1] =
    [PrefixVariable { prefix: "proxy_protocol_tlv_", read: address::proxy_protocol_tlv }];
