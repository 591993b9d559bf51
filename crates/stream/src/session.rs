//! The way of a session through nginx's phases: PROXY protocol, access, TLS, what is looked at beforehand, content, log.
//!
//! A session is a request without a head ([`Request`]), so that modules and variables need not know which it is.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use conf::resources::SocketKind;
use http::Request;
use http::conf::listen::Address;
use http::conf::location::Content;
use http::conf::server_name::Found;
use http::connection::Conn;
use http::cycle::{Local, Worker};
use http::logging::Doing;
use http::process;
use http::server::accept::Served;
use http::server::proxy_header::{self, Heard};
use http::server::tls;
use http::side::Side;
use http::tls::Alpn;
use net::tls::Begun;
use os::errlog::Level;

use crate::core::Core;
use crate::pass::Handover;
use crate::ssl_preread;
use crate::udp::Mailbox;

/// The status of a session that was served, or whose client went away.
pub(crate) const OK: u16 = 200;
/// What the client sent is not what was to come.
pub(crate) const BAD_REQUEST: u16 = 400;
/// No server could be had, or it did not answer.
pub(crate) const BAD_GATEWAY: u16 = 502;
/// This side could not go on.
pub(crate) const INTERNAL: u16 = 500;

/// Serves a connection that was accepted, on a task of its own.
pub fn serve(served: Served) {
    net::spawn(async move {
        // It goes last: the client sees the end when everything else of the session is over.
        let handover = run(&served, None).await;
        if let Some(handover) = handover
            && let Some(conn) = served.into_conn()
        {
            handover.complete(conn);
        }
    });
}

/// Serves the datagrams of one client, on a task of its own.
pub(crate) fn serve_datagrams(served: Served, mailbox: Rc<Mailbox>) {
    net::spawn(async move {
        run(&served, Some(&mailbox)).await;
        mailbox.close();
    });
}

/// Serves a session; gives who goes on with its connection, if somebody does.
async fn run(served: &Served, mailbox: Option<&Rc<Mailbox>>) -> Option<Handover> {
    let (worker, conn) = (Worker::current(), served.conn());
    conn.is_idle.set(false);
    let cycle = worker.cycle_of(Side::Stream);
    let listener = cycle.http.listeners.get(conn.listener_in(&cycle)?)?;
    let local = if listener.needs_local_address() { conn.local_ip() } else { None };
    let address = listener.address(local);
    let mut r = worker.new_request();
    begin(&mut r, &cycle, conn, address);
    if let Some(mailbox) = mailbox {
        r.lasting.put(Rc::clone(mailbox));
    }
    let status = {
        let mut session = std::pin::pin!(session(&mut r, address));
        poll_fn(|cx| {
            net::timer::worked();
            if let Poll::Ready(status) = session.as_mut().poll(cx) {
                return Poll::Ready(Some(status));
            }
            if conn.is_aborted.get() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    };
    if status.is_none() {
        r.log(Level::Info, format_args!("shutdown timeout"));
    }
    // Who goes on with the connection has its end to log.
    if let Some(handover) = r.lasting.take() {
        return Some(handover);
    }
    r.response.status = status.unwrap_or(OK);
    process::log(&mut r).await;
    None
}

/// Makes a request of a connection, under the settings of the server that is the default there.
fn begin(r: &mut Request, cycle: &Rc<Local>, conn: &Rc<Conn>, address: &Address) {
    r.begin(Rc::clone(cycle), Rc::clone(conn));
    r.started = net::timer::wall_clock();
    r.started_ms = net::timer::now_ms();
    r.server = address.default_server;
    r.location = cycle.http.server(r.server).root;
    if r.logs(Level::Info) {
        let udp = if conn.kind == SocketKind::Datagram { "udp " } else { "" };
        r.error_log().log_for(
            Level::Info,
            conn.scope(),
            format_args!("{udp}client {} connected to {}", conn.peer, Shown(conn)),
        );
    }
}

/// The address that was listened on.
struct Shown<'a>(&'a Conn);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.listen_addr() {
            conf::resources::ListenAddr::Inet(addr) => addr.fmt(f),
            conf::resources::ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The whole way but for the log; gives the session's status.
async fn session(r: &mut Request, address: &Address) -> u16 {
    match prepare(r, address).await {
        Ok(()) => {}
        Err(status) => return status,
    }
    let cycle = Rc::clone(&r.cycle);
    match &cycle.http.location(r.location).content {
        Some(Content::Session(content)) => content.serve(r).await,
        _ => INTERNAL,
    }
}

/// What comes before the content; an error is the status of a session that ends there.
async fn prepare(r: &mut Request, address: &Address) -> Result<(), u16> {
    if address.options.proxy_protocol {
        read_proxy_header(r).await?;
    }
    r.contexts.put(Doing("initializing session"));
    process::admit(r).await?;
    if address.options.ssl && !r.conn.is_tls() {
        shake(r, address).await?;
    }
    if r.conn.kind == SocketKind::Stream {
        ssl_preread::look(r, address).await?;
    }
    r.contexts.take::<Doing>();
    r.conn.deadline.clear();
    Ok(())
}

async fn read_proxy_header(r: &mut Request) -> Result<(), u16> {
    r.contexts.put(Doing("reading PROXY protocol"));
    let conn = Rc::clone(&r.conn);
    conn.deadline.set_after(r.location().settings::<Core>().proxy_protocol_timeout);
    match proxy_header::take(&conn).await {
        Heard::Header => Ok(()),
        Heard::TimedOut => {
            r.log(Level::Info, format_args!("client timed out (110: Connection timed out)"));
            Err(OK)
        }
        Heard::Gone => {
            r.log(Level::Error, format_args!("broken header: \"\""));
            Err(BAD_REQUEST)
        }
        Heard::Broken(why) => {
            r.log(Level::Error, format_args!("{why}"));
            Err(BAD_REQUEST)
        }
    }
}

/// The TLS handshake with the client, and what must be true of it (`ngx_stream_ssl_handler`).
async fn shake(r: &mut Request, address: &Address) -> Result<(), u16> {
    r.contexts.put(Doing("SSL handshaking"));
    let conn = Rc::clone(&r.conn);
    let timeout = |r: &Request| r.server().tls.as_ref().map_or(60_000, |tls| tls.handshake_timeout);
    conn.deadline.set_after(timeout(r));
    match conn.stream.read_hello(conn.take_leftover(), &conn.deadline).await {
        Ok(Begun::Tls) => {}
        Ok(Begun::Plain(_)) => {
            r.log(Level::Info, format_args!("SSL_do_handshake() failed (SSL: wrong version number)"));
            return Err(INTERNAL);
        }
        Err(error) => {
            let (level, said) = tls::told(&error);
            r.log(level, format_args!("{said}"));
            return Err(INTERNAL);
        }
    }
    find_server(r, address);
    if !tls::accept(r, address, Alpn::Http1).await {
        return Err(INTERNAL);
    }
    conn.deadline.set_after(timeout(r));
    if let Err(error) = tls::shake(r, address).await {
        let (level, said) = tls::told(&error);
        r.log(level, format_args!("{said}"));
        return Err(INTERNAL);
    }
    let Some(policy) = r.server().tls.as_ref().and_then(|tls| tls.client.as_ref()) else { return Ok(()) };
    let Some(session) = conn.stream.tls() else { return Ok(()) };
    policy.admit(session).map_err(|refused| {
        r.log(Level::Info, format_args!("{refused}"));
        INTERNAL
    })
}

/// Goes on under the settings of the server that the hello's name leads to (`ngx_stream_ssl_servername`).
fn find_server(r: &mut Request, address: &Address) {
    let conn = Rc::clone(&r.conn);
    let Some(session) = conn.stream.tls() else { return };
    let name = session.hello().and_then(|hello| hello.name.as_deref()).unwrap_or_default();
    let Ok(host) = proto::uri::validate_host(name.as_bytes()) else { return };
    if enter_server(r, address, &host.name) {
        session.accept_name(&host.name);
    }
}

/// Goes on under the settings of the server that a name leads to, if it leads to one.
pub(crate) fn enter_server(r: &mut Request, address: &Address, name: &[u8]) -> bool {
    match address.hosts.find(name) {
        None => return false,
        Some(Found::Server(server)) => r.server = server,
        Some(Found::Regex(regex, server)) => {
            r.matches(regex, name);
            r.server = server;
        }
    }
    r.location = r.server().root;
    true
}
