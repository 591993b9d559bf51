//! The directive rows of the settings that upstream protocols share, under each protocol's prefix.
//!
//! The connection, which every protocol has; the answer's head; buffering of both bodies; the cache; files.

/// Rows for how a peer is connected to and how long it is waited for.
#[macro_export]
#[rustfmt::skip]
macro_rules! relay_connection_rows {
    ($prefix:literal, $settings:ty) => {
        $crate::relay_connection_rows!($prefix, $settings, "4k")
    };
    ($prefix:literal, $settings:ty, $buffer_size:literal) => {{
        use conf::{Arity, Contexts};
        use $crate::rows::{flag, row, size, time};
        const ALL: Contexts = Contexts::HTTP_ALL;
        let rows: [$crate::rows::Row<$settings>; 8] = [
            time(concat!($prefix, "_connect_timeout"), ALL, "60s", "Time to connect.", |s, v| s.relay.connect_timeout = v),
            time(concat!($prefix, "_send_timeout"), ALL, "60s", "Time between two writes to the upstream.", |s, v| s.relay.send_timeout = v),
            time(concat!($prefix, "_read_timeout"), ALL, "60s", "Time between two reads from the upstream.", |s, v| s.relay.read_timeout = v),
            $crate::rows::number(concat!($prefix, "_next_upstream_tries"), ALL, "0", "Most servers tried.", |s, v| s.relay.next_upstream_tries = u32::try_from(v).unwrap_or(u32::MAX)),
            time(concat!($prefix, "_next_upstream_timeout"), ALL, "0", "Time in which servers are tried.", |s, v| s.relay.next_upstream_timeout = v),
            size(concat!($prefix, "_buffer_size"), ALL, $buffer_size, "Buffer for the head of the answer, and of each direction of a tunnel.", |s, v| s.relay.buffer_size = v),
            row(concat!($prefix, "_bind"), ALL, Arity::TAKE12, "", "Local address towards the upstream.", |s, cx, d| s.relay.set_bind(cx, d)),
            flag(concat!($prefix, "_socket_keepalive"), ALL, "off", "TCP keep-alive to the upstream.", |s, v| s.relay.socket_keepalive = v),
        ];
        rows
    }};
}

/// Rows for what an answer's head commands.
#[macro_export]
#[rustfmt::skip]
macro_rules! relay_answer_rows {
    ($prefix:literal, $settings:ty) => {{
        use conf::{Arity, Contexts};
        use $crate::relay::settings::{ignore, next};
        use $crate::rows::{flag, row, size, value};
        const ALL: Contexts = Contexts::HTTP_ALL;
        let rows: [$crate::rows::Row<$settings>; 7] = [
            row(concat!($prefix, "_next_upstream"), ALL, Arity::MORE1, "error timeout", "When the next server is tried.", |s: &mut $settings, cx, d| { s.relay.next_upstream = cx.bits(d, &next::NAMES)?; Ok(()) }).many(),
            flag(concat!($prefix, "_intercept_errors"), ALL, "off", "Answers errors by error_page.", |s, v| s.relay.intercept_errors = v),
            row(concat!($prefix, "_ignore_headers"), ALL, Arity::MORE1, "", "Fields of the answer without effect.", |s: &mut $settings, cx, d| { s.relay.ignore_headers = cx.bits(d, &ignore::NAMES)?; Ok(()) }).many(),
            value::<$settings>(concat!($prefix, "_hide_header"), ALL, Arity::ONE, "", "A field that is not passed on.", |s, d| s.relay.hide(d)).many(),
            value::<$settings>(concat!($prefix, "_pass_header"), ALL, Arity::ONE, "", "A hidden field that is passed on.", |s, d| s.relay.unhide(d)).many(),
            size(concat!($prefix, "_socket_rcvbuf"), ALL, "", "Receive buffer of the connection.", |s, v| s.relay.socket_rcvbuf = u32::try_from(v).unwrap_or(u32::MAX)),
            size(concat!($prefix, "_socket_sndbuf"), ALL, "", "Send buffer of the connection.", |s, v| s.relay.socket_sndbuf = u32::try_from(v).unwrap_or(u32::MAX)),
        ];
        rows
    }};
}

/// Rows for how bodies are buffered.
#[macro_export]
#[rustfmt::skip]
macro_rules! relay_buffer_rows {
    ($prefix:literal, $settings:ty) => {{
        use conf::{Arity, Contexts};
        use $crate::rows::{flag, row, size, value};
        const ALL: Contexts = Contexts::HTTP_ALL;
        let rows: [$crate::rows::Row<$settings>; 12] = [
            flag(concat!($prefix, "_buffering"), ALL, "on", "Reads an answer as fast as it comes.", |s, v| s.relay.buffering = v),
            flag(concat!($prefix, "_request_buffering"), ALL, "on", "Reads the whole request body first.", |s, v| s.relay.request_buffering = v),
            flag(concat!($prefix, "_ignore_client_abort"), ALL, "off", "Goes on when the client has gone.", |s, v| s.relay.ignore_client_abort = v),
            flag(concat!($prefix, "_force_ranges"), ALL, "off", "Serves ranges whatever the upstream says.", |s, v| s.relay.force_ranges = v),
            flag(concat!($prefix, "_pass_request_headers"), ALL, "on", "Passes the request's fields.", |s, v| s.relay.pass_request_headers = v),
            flag(concat!($prefix, "_pass_request_body"), ALL, "on", "Passes the request's body.", |s, v| s.relay.pass_request_body = v),
            value(concat!($prefix, "_buffers"), ALL, Arity::TWO, "8 4k", "Buffers for the answer.", |s, d| { let bufs = d.bufs()?; s.relay.buffers = (bufs.number, usize::try_from(bufs.size).unwrap_or(usize::MAX)); Ok(()) }),
            size(concat!($prefix, "_busy_buffers_size"), ALL, "", "Buffers that may be on their way to the client.", |s, v| s.relay.busy_buffers_size = Some(v)),
            $crate::rows::offset(concat!($prefix, "_max_temp_file_size"), ALL, "", "Largest temporary file of an answer.", |s, v| s.relay.max_temp_file_size = Some(v)),
            size(concat!($prefix, "_temp_file_write_size"), ALL, "", "Bytes written to a temporary file at once.", |s, v| s.relay.temp_file_write_size = Some(v)),
            row(concat!($prefix, "_temp_path"), ALL, Arity::TAKE1234, concat!($prefix, "_temp"), "Directory for answers that wait.", |s, cx, d| { s.relay.temp_path = $crate::conf::core::temp_path(cx, d)?; Ok(()) }),
            row(concat!($prefix, "_limit_rate"), ALL, Arity::ONE, "", "Bytes per second read from the upstream.", |s, cx, d| { s.relay.limit_rate = Some($crate::variables::Template::compile(cx, d.arg(0)?)?); Ok(()) }),
        ];
        rows
    }};
}

/// The rows that a protocol with heads and buffered bodies has: `relay_rows!("proxy", ProxySettings, ROWS)` makes
/// the tables for [`crate::module::Module::shared_rows`]. The settings have a field `relay`.
#[macro_export]
macro_rules! relay_rows {
    ($prefix:literal, $settings:ty, $rows:ident) => {
        pub(super) static $rows: [&[$crate::rows::Row<$settings>]; 5] = {
            static CONNECTION: &[$crate::rows::Row<$settings>] =
                &$crate::relay_connection_rows!($prefix, $settings);
            static ANSWER: &[$crate::rows::Row<$settings>] = &$crate::relay_answer_rows!($prefix, $settings);
            static BUFFERS: &[$crate::rows::Row<$settings>] = &$crate::relay_buffer_rows!($prefix, $settings);
            static CACHE: &[$crate::rows::Row<$settings>] = &$crate::relay_cache_rows!($prefix, $settings);
            static STORE: &[$crate::rows::Row<$settings>] = &$crate::relay_store_rows!($prefix, $settings);
            [CONNECTION, ANSWER, BUFFERS, CACHE, STORE]
        };
    };
}
