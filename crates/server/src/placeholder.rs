//! An engine that knows `listen` and `return` and answers every connection with one text.
//!
//! It lets master, worker and reload be tried without anything that serves requests.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use conf::resources::{ListenAddr, SocketKind, SocketSpec};
use conf::{Arity, Body, Contexts, Directive, Error, Row};
use net::TaskHandle;
use net::watch::watch_listening;

use crate::engine::{Command, Commands, Engine, Input, Module, Running, Thread};

/// The engine.
#[derive(Debug)]
pub struct Placeholder;

/// Its compiled configuration.
#[derive(Debug)]
pub struct Cycle {
    sockets: Mutex<Vec<Arc<OwnedFd>>>,
    answer: String,
}

static ROWS: &[Row] = &Row::of(
    "ngx_http_core_module",
    [
        Row::new("http", Contexts::MAIN, Arity::NOARGS).block(Contexts::HTTP).once().doc("Web servers."),
        Row::new("server", Contexts::HTTP, Arity::NOARGS).block(Contexts::SERVER).doc("A server."),
        Row::new("listen", Contexts::SERVER, Arity::MORE1).many().doc("An address that it listens on."),
        Row::new("return", Contexts::SERVER, Arity::TAKE12).doc("Its answer."),
    ],
);

impl Engine for Placeholder {
    type Cycle = Cycle;

    fn rows() -> Vec<&'static Row> {
        ROWS.iter().collect()
    }

    fn modules() -> &'static [Module] {
        &[]
    }

    fn compile(input: Input<'_, Cycle>) -> Result<Cycle, Error> {
        let mut lines = Vec::new();
        input.tree.directives.iter().for_each(|line| collect(line, &mut lines));
        let (mut sockets, mut answer) = (Vec::new(), String::new());
        for line in lines {
            let word = line.arg(0)?;
            if line.name.is("return") {
                answer = line.args.last().unwrap_or(word).as_str().into_owned();
                continue;
            }
            let addr = address(&word.as_str())
                .ok_or_else(|| Error::at(word, format!("invalid address \"{}\"", word.as_str())))?;
            let failed = |error| Error::at(word, format!("listen failed: {error}"));
            sockets.push(input.resources.socket(&spec(addr)).map_err(failed)?);
        }
        Ok(Cycle { sockets: Mutex::new(sockets), answer })
    }

    async fn serve(_: Thread, cycle: Arc<Running<Cycle>>, mut commands: Commands<Self>) {
        let mut acceptors = accept_all(&cycle);
        drop(cycle);
        while let Some(command) = commands.recv().await {
            match command {
                Command::Adopt(cycle) => {
                    acceptors.drain(..).for_each(|task| task.abort());
                    net::yield_now().await;
                    acceptors = accept_all(&cycle);
                }
                Command::Quit { .. } | Command::Terminate => break,
            }
        }
        acceptors.drain(..).for_each(|task| task.abort());
    }
}

fn collect<'a>(line: &'a Directive, lines: &mut Vec<&'a Directive>) {
    if matches!(line.row.body, Body::Block(_)) {
        line.body().iter().for_each(|inner| collect(inner, lines));
    } else if line.name.is("listen") || line.name.is("return") {
        lines.push(line);
    }
}

fn address(text: &str) -> Option<ListenAddr> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Some(ListenAddr::Unix(path.into()));
    }
    let port = text.parse().map(|port: u16| SocketAddr::from(([0, 0, 0, 0], port)));
    port.or_else(|_| text.parse()).ok().map(ListenAddr::Inet)
}

fn spec(addr: ListenAddr) -> SocketSpec {
    SocketSpec {
        addr,
        kind: SocketKind::Stream,
        reuseport: None,
        backlog: 511,
        rcvbuf: None,
        sndbuf: None,
        keepalive: None,
        deferred: false,
        ipv6only: true,
        fastopen: None,
    }
}

fn accept_all(cycle: &Arc<Running<Cycle>>) -> Vec<TaskHandle> {
    let sockets = cycle.sockets.lock().unwrap_or_else(PoisonError::into_inner);
    let accept = |socket: &Arc<OwnedFd>| net::spawn(accept(Arc::clone(cycle), Arc::clone(socket)));
    sockets.iter().map(accept).collect()
}

async fn accept(cycle: Arc<Running<Cycle>>, socket: Arc<OwnedFd>) {
    let Ok(listener) = watch_listening(socket) else { return };
    loop {
        listener.readable().await;
        match os::socket::accept4(listener.get_ref().as_fd()) {
            Ok((fd, _)) => drop(answer(fd, &cycle.answer)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => listener.clear_readable(),
            Err(_) => {}
        }
    }
}

fn answer(fd: OwnedFd, text: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::from(fd);
    let _ = stream.read(&mut [0; 1024]);
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
    stream.shutdown(std::net::Shutdown::Write)
}
