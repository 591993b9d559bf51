//! Whole lookups against a name server in the same thread.
//!
//! The server notes what it was asked, so a test counts queries instead of measuring time.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::conf::{Families, Timings};
use super::packet::Packet;
use super::*;
use crate::event_loop::watch::{Interest, Watch, watch};
use crate::{Deadline, Stream, spawn, yield_now};

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
/// Long enough for whatever does answer.
const LONG_MS: u64 = 20_000;

/// A query as the server saw it.
#[derive(Clone, Debug)]
struct Asked {
    id: u16,
    name: String,
    number: u16,
    over_tcp: bool,
    /// The port that it came from; zero over TCP.
    from_port: u16,
    /// How many of this name and type came before.
    before: usize,
}

impl Asked {
    fn reply(&self) -> Packet {
        Packet::new(self.id, &self.name, self.number)
    }

    fn none(&self) -> Vec<Vec<u8>> {
        vec![self.reply().bytes()]
    }
}

/// A name server on a port of its own, UDP and TCP.
struct Server {
    addr: SocketAddr,
    seen: Rc<RefCell<Vec<Asked>>>,
}

impl Server {
    async fn new(answer: impl Fn(&Asked) -> Vec<Vec<u8>> + 'static) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            tcp.set_nonblocking(true).expect("a flag");
            let addr = tcp.local_addr().expect("an address");
            // The same number may be taken for UDP.
            if let Ok(udp) = udp(addr.port()) {
                break (udp, Served::new(tcp));
            }
        };
        let addr = udp.addr();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let answer = Rc::new(answer);
        let (answer_udp, seen_udp) = (Rc::clone(&answer), Rc::clone(&seen));
        spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                for reply in answer_udp(&note(&seen_udp, &buffer[..length], from.port())) {
                    udp.send_to(&reply, from);
                }
            }
        });
        let seen_tcp = Rc::clone(&seen);
        spawn(async move {
            while let Ok((stream, _)) = tcp.once(TcpListener::accept).await {
                stream.set_nonblocking(true).expect("a flag");
                let stream = Stream::new(stream.into());
                let _ = serve_stream(&stream, |query| answer(&note(&seen_tcp, query, 0))).await;
            }
        });
        Self { addr, seen }
    }

    fn asked(&self) -> Vec<String> {
        let name = |asked: &Asked| {
            let kind = match asked.number {
                A => "A",
                AAAA => "AAAA",
                SRV => "SRV",
                _ => "PTR",
            };
            format!("{kind} {}{}", asked.name, if asked.over_tcp { " tcp" } else { "" })
        };
        self.seen.borrow().iter().map(name).collect()
    }

    fn conf(&self, families: Families, valid_ms: u64) -> ResolverConf {
        conf_of(&[self.addr], families, valid_ms)
    }
}

fn conf_of(servers: &[SocketAddr], families: Families, valid_ms: u64) -> ResolverConf {
    let timings = Timings { resend_ms: 60, tcp_ms: 500, unused_ms: 30_000 };
    ResolverConf::new(servers.to_vec(), valid_ms, families, timings)
}

fn note(seen: &RefCell<Vec<Asked>>, query: &[u8], from_port: u16) -> Asked {
    let id = message::id_of(query).expect("an id");
    let name = message::asked_name(query).to_string();
    let number = u16::from_be_bytes([query[query.len() - 4], query[query.len() - 3]]);
    let mut seen = seen.borrow_mut();
    let before = seen.iter().filter(|other| other.name == name && other.number == number).count();
    let asked = Asked { id, name, number, over_tcp: from_port == 0, from_port, before };
    seen.push(asked.clone());
    asked
}

async fn serve_stream(stream: &Stream, answer: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> std::io::Result<()> {
    let (mut query, never) = (Vec::new(), Deadline::new());
    tcp::read_message(stream, &mut query, &never).await?;
    for reply in answer(&query) {
        // In two pieces, so that the other side has to put them together.
        let framed: Vec<u8> = (reply.len() as u16).to_be_bytes().into_iter().chain(reply).collect();
        for piece in framed.chunks(framed.len() / 2 + 1) {
            stream.send_all(piece, &never).await?;
            yield_now().await;
        }
    }
    // Until the other side closes.
    tcp::read_exact(stream, &mut query, 1, &never).await
}

fn run(future: impl Future<Output = ()>) {
    crate::block_on(future);
}

/// A task of its own, and where its result comes.
fn begun<T: 'static>(future: impl Future<Output = T> + 'static) -> oneshot::Receiver<T> {
    let (give, take) = oneshot::channel();
    spawn(async move { drop(give.send(future.await)) });
    take
}

/// A socket of the server's side.
struct Served<S: AsRawFd>(Watch<S>);

impl<S: AsRawFd> Served<S> {
    fn new(socket: S) -> Self {
        Self(watch(socket, Interest::Readable).expect("a place on the event loop"))
    }

    /// What a call gives once there is something for it.
    async fn once<T>(&self, mut call: impl FnMut(&S) -> std::io::Result<T>) -> std::io::Result<T> {
        loop {
            self.0.readable().await;
            match call(self.0.get_ref()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.0.clear_readable(),
                done => return done,
            }
        }
    }
}

/// A socket for datagrams on a port that the kernel picks, or on one that may be taken.
fn udp(port: u16) -> std::io::Result<Served<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nonblocking(true)?;
    Ok(Served::new(socket))
}

impl Served<UdpSocket> {
    fn addr(&self) -> SocketAddr {
        self.0.get_ref().local_addr().expect("an address")
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
        self.once(|socket| socket.recv_from(buffer)).await
    }

    fn send_to(&self, bytes: &[u8], to: SocketAddr) {
        self.0.get_ref().send_to(bytes, to).expect("sent");
    }
}

async fn told(conf: &ResolverConf, name: &str) -> String {
    match resolve(conf, name, 80, LONG_MS).await {
        Ok(addrs) => addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

/// What the resolvers of this thread reported so far.
fn messages() -> Rc<RefCell<Vec<String>>> {
    let list = Rc::new(RefCell::new(Vec::new()));
    let into = Rc::clone(&list);
    on_message(move |message| into.borrow_mut().push(message.to_string()));
    list
}

#[test]
fn literals_ask_nobody() {
    run(async {
        let server = Server::new(Asked::none).await;
        let conf = server.conf(Families::Both, 0);
        assert_eq!(told(&conf, "192.0.2.1").await, "192.0.2.1:80");
        assert_eq!(told(&conf, "[2001:db8::1]").await, "[2001:db8::1]:80");
        for bad in ["", ".", "a..b", &"x".repeat(64), &"x.".repeat(200), "a b"] {
            assert_eq!(told(&conf, bad).await, "Host not found", "{bad}");
        }
        assert!(server.asked().is_empty());
    });
}

#[test]
fn both_families_are_asked_and_known_for_the_ttl() {
    run(async {
        let server = Server::new(|asked| {
            vec![match asked.number {
                A => asked.reply().addr(3600, "127.0.0.1").bytes(),
                _ => asked.reply().addr(3600, "::1").bytes(),
            }]
        })
        .await;
        let conf = server.conf(Families::Both, 0);
        assert_eq!(told(&conf, "a.example").await, "127.0.0.1:80 [::1]:80");
        // From the cache in any order, and under any spelling of the name.
        for name in ["a.example", "A.Example", "a.example."] {
            let mut addrs = resolve(&conf, name, 80, LONG_MS).await.expect("known");
            addrs.sort();
            assert_eq!(addrs.len(), 2);
        }
        assert_eq!(server.asked(), ["A a.example", "AAAA a.example"]);
        let resolved = lookup(&conf, "a.example", 80, LONG_MS).await.expect("known");
        let left_ms = resolved.valid_until_ms - timer::now_ms();
        assert!((3_590_000..=3_600_000).contains(&left_ms), "{left_ms}");
    });
}

#[test]
fn one_family_when_the_other_is_off() {
    run(async {
        let server = Server::new(Asked::none).await;
        let _ = told(&server.conf(Families::Ipv4, 0), "a").await;
        let _ = told(&server.conf(Families::Ipv6, 0), "b").await;
        assert_eq!(server.asked(), ["A a", "AAAA b"]);
    });
}

#[test]
fn a_ttl_of_zero_is_not_kept_unless_valid_says_so() {
    run(async {
        let server = Server::new(|asked| vec![asked.reply().addr(0, "127.0.0.1").bytes()]).await;
        let conf = server.conf(Families::Ipv4, 0);
        let valid = server.conf(Families::Ipv4, 60_000);
        for _ in 0..3 {
            assert_eq!(told(&conf, "a").await, "127.0.0.1:80");
            assert_eq!(told(&valid, "b").await, "127.0.0.1:80");
        }
        assert_eq!(server.asked(), ["A a", "A b", "A a", "A a"]);
    });
}

#[test]
fn an_answer_ends_with_its_ttl_and_with_valid() {
    run(async {
        let server = Server::new(|asked| vec![asked.reply().addr(1, "127.0.0.1").bytes()]).await;
        let (conf, valid) = (server.conf(Families::Ipv4, 0), server.conf(Families::Ipv4, 50));
        for (conf, name) in [(&conf, "a"), (&valid, "b")] {
            let resolved = lookup(conf, name, 80, LONG_MS).await.expect("an address");
            while timer::now_ms() < resolved.valid_until_ms {
                timer::sleep(5).await;
            }
            assert_eq!(told(conf, name).await, "127.0.0.1:80");
        }
        assert_eq!(server.asked(), ["A a", "A a", "A b", "A b"]);
    });
}

#[test]
fn there_is_none_is_kept_as_long_as_the_zone_says() {
    run(async {
        let server = Server::new(|asked| {
            let reply = asked.reply();
            vec![match &*asked.name {
                "soa" => reply.flags(3).soa(60, 60).bytes(),
                "empty" => reply.soa(60, 60).bytes(),
                "bare" => reply.flags(3).bytes(),
                "fails" => reply.flags(2).soa(60, 60).bytes(),
                _ => reply.flags(5).bytes(),
            }]
        })
        .await;
        let conf = server.conf(Families::Ipv4, 0);
        let check = async |name: &str, expected: &str, queries: usize| {
            assert_eq!(told(&conf, name).await, expected);
            assert_eq!(told(&conf, name).await, expected);
            let asked = server.asked().iter().filter(|query| **query == format!("A {name}")).count();
            assert_eq!(asked, queries, "{name}");
        };
        check("soa", "Host not found", 1).await;
        check("empty", "Host not found", 1).await;
        check("bare", "Host not found", 2).await;
        check("fails", "Server failure", 2).await;
        check("other", "Operation refused", 2).await;
    });
}

#[test]
fn a_query_is_sent_again_to_the_next_server() {
    run(async {
        let silent = Server::new(|_| Vec::new()).await;
        let good = Server::new(|asked| vec![asked.reply().addr(0, "127.0.0.1").bytes()]).await;
        let conf = conf_of(&[silent.addr, good.addr], Families::Ipv4, 0);
        assert_eq!(told(&conf, "a").await, "127.0.0.1:80");
        assert_eq!((silent.asked().len(), good.asked().len()), (1, 1));
        // The servers take turns.
        assert_eq!(told(&conf, "b").await, "127.0.0.1:80");
        assert_eq!((silent.asked().len(), good.asked().len()), (1, 2));
    });
}

#[test]
fn only_what_is_unanswered_is_sent_again() {
    run(async {
        let server = Server::new(|asked| match (asked.number, asked.before) {
            (A, _) => vec![asked.reply().addr(60, "127.0.0.1").bytes()],
            (_, 0) => Vec::new(),
            _ => asked.none(),
        })
        .await;
        assert_eq!(told(&server.conf(Families::Both, 0), "a").await, "127.0.0.1:80");
        assert_eq!(server.asked(), ["A a", "AAAA a", "AAAA a"]);
    });
}

#[test]
fn the_time_runs_out() {
    run(async {
        let server = Server::new(|_| Vec::new()).await;
        let conf = server.conf(Families::Ipv4, 0);
        let outcome = resolve(&conf, "a", 80, 200).await;
        assert_eq!(outcome, Err(ResolveError::TimedOut));
        assert!(server.asked().len() >= 2, "{:?}", server.asked());
        // Nobody waits, so nothing is left: neither the lookup nor its socket.
        for _ in 0..100 {
            yield_now().await;
        }
        let resolver = Resolver::of_thread(&conf);
        assert!(matches!(resolver.table(Kind::Address).look_up("a", 0), Lookup::Miss));
        assert!(resolver.lines.borrow().iter().all(|line| line.upgrade().is_none()));
    });
}

#[test]
fn wrong_ids_questions_and_broken_answers_are_passed_over() {
    run(async {
        let messages = messages();
        let server = Server::new(|asked| {
            let good = asked.reply().addr(60, "127.0.0.1").bytes();
            let wrong_id = Packet::new(asked.id ^ 1, &asked.name, asked.number).addr(60, "127.0.0.2");
            let other_name = Packet::new(asked.id, "other", asked.number).addr(60, "127.0.0.3");
            let other_type = Packet::new(asked.id, &asked.name, AAAA).addr(60, "::1");
            let format_error = asked.reply().flags(1);
            let broken = asked.reply().record(A, 60, &[127]);
            let bad = [wrong_id, other_name, other_type, format_error, broken];
            let bad = bad.into_iter().map(Packet::bytes);
            bad.chain([vec![1], Vec::new(), good]).collect()
        })
        .await;
        assert_eq!(told(&server.conf(Families::Ipv4, 0), "a").await, "127.0.0.1:80");
        assert_eq!(server.asked().len(), 1);
        let messages = messages.borrow();
        let expected = [
            "wrong ident",
            "unexpected DNS response for other",
            "unexpected DNS response for a",
            "DNS error (1: Format error)",
            "invalid A record",
            "short DNS",
            "short DNS",
        ];
        assert_eq!(messages.len(), expected.len(), "{messages:?}");
        for (message, start) in messages.iter().zip(expected) {
            assert!(message.starts_with(start), "{message}");
        }
    });
}

#[test]
fn an_answer_from_elsewhere_is_not_heard() {
    run(async {
        // The right words from the wrong port: the first server's query is answered by another socket.
        let other = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let socket = udp(0).expect("a port");
        let addr = socket.addr();
        spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = &buffer[..length];
                let id = message::id_of(query).expect("an id");
                let name = message::asked_name(query);
                let forged = Packet::new(id, &name, A).addr(60, "127.0.0.66").bytes();
                other.send_to(&forged, from).expect("sent");
                let good = Packet::new(id, &name, A).addr(60, "127.0.0.1").bytes();
                socket.send_to(&good, from);
            }
        });
        assert_eq!(told(&conf_of(&[addr], Families::Ipv4, 0), "a").await, "127.0.0.1:80");
    });
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp() {
    run(async {
        let server = Server::new(|asked| {
            if asked.over_tcp {
                let other =
                    Packet::new(asked.id ^ 1, &asked.name, asked.number).addr(60, "127.0.0.9").bytes();
                let good =
                    (1..=200).fold(asked.reply(), |reply, last| reply.addr(60, &format!("127.0.0.{last}")));
                vec![other, good.bytes()]
            } else {
                vec![asked.reply().addr(60, "127.0.0.1").flags(0x200).bytes()]
            }
        })
        .await;
        let addrs = resolve(&server.conf(Families::Ipv4, 0), "a", 80, LONG_MS).await.expect("addresses");
        assert_eq!(addrs.len(), 200);
        assert_eq!(server.asked(), ["A a", "A a tcp"]);
    });
}

#[test]
fn a_server_without_tcp_is_followed_by_the_next() {
    run(async {
        let closed = udp(0).expect("a port");
        let addr = closed.addr();
        spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = closed.recv_from(&mut buffer).await {
                let id = message::id_of(&buffer[..length]).expect("an id");
                let reply = Packet::new(id, &message::asked_name(&buffer[..length]), A).flags(0x200);
                closed.send_to(&reply.bytes(), from);
            }
        });
        let good = Server::new(|asked| vec![asked.reply().addr(60, "127.0.0.1").bytes()]).await;
        let conf = conf_of(&[addr, good.addr], Families::Ipv4, 0);
        assert_eq!(told(&conf, "a").await, "127.0.0.1:80");
        assert_eq!(good.asked(), ["A a tcp"]);
    });
}

#[test]
fn chains_of_cnames_are_followed_to_their_limit() {
    run(async {
        // nN points to n(N-1), each in an answer of its own; n0 has an address.
        let server = Server::new(|asked| {
            let number: usize = asked.name.trim_start_matches('n').parse().expect("a number");
            vec![match number.checked_sub(1) {
                Some(next) => asked.reply().cname(60, &format!("n{next}")).bytes(),
                None => asked.reply().addr(60, "127.0.0.1").bytes(),
            }]
        })
        .await;
        let conf = server.conf(Families::Ipv4, 0);
        assert_eq!(told(&conf, "n16").await, "127.0.0.1:80");
        assert_eq!(server.asked().len(), 17);
        assert_eq!(told(&conf, "n17").await, "Host not found");
        assert_eq!(server.asked().len(), 18);
        assert_eq!(told(&conf, "n16").await, "127.0.0.1:80");
        assert_eq!(server.asked().len(), 18);
    });
}

#[test]
fn a_cname_loop_ends() {
    run(async {
        let server = Server::new(|asked| vec![asked.reply().cname(60, "a").bytes()]).await;
        assert_eq!(told(&server.conf(Families::Both, 0), "a").await, "Host not found");
        assert_eq!(server.asked().len(), 2);
    });
}

#[test]
fn a_hundred_lookups_are_one_query_of_each_type() {
    run(async {
        let server = Server::new(|asked| match asked.number {
            A => vec![asked.reply().addr(0, "127.0.0.1").bytes()],
            _ => asked.none(),
        })
        .await;
        let conf = server.conf(Families::Both, 0);
        let lookups = (0..100).map(|_| {
            let conf = conf.clone();
            begun(async move { told(&conf, "a").await })
        });
        for lookup in lookups.collect::<Vec<_>>() {
            assert_eq!(lookup.await.expect("ended"), "127.0.0.1:80");
        }
        assert_eq!(server.asked(), ["A a", "AAAA a"]);
    });
}

#[test]
fn threads_ask_once_together() {
    run(async {
        let server = Server::new(|asked| vec![asked.reply().addr(3600, "127.0.0.1").bytes()]).await;
        let conf = server.conf(Families::Ipv4, 0);
        // What is known stays as long as any thread has it, and the others may come and go one after the other.
        let _kept = Resolver::of_thread(&conf);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let conf = conf.clone();
                std::thread::spawn(move || {
                    run(async move { assert_eq!(told(&conf, "shared.example").await, "127.0.0.1:80") });
                })
            })
            .collect();
        while !threads.iter().all(std::thread::JoinHandle::is_finished) {
            timer::sleep(1).await;
        }
        for thread in threads {
            thread.join().expect("an answer");
        }
        assert_eq!(server.asked(), ["A shared.example"]);
    });
}

#[test]
fn a_lookup_goes_on_while_one_still_waits() {
    run(async {
        let server = Server::new(|asked| match asked.before {
            0 | 1 => Vec::new(),
            _ => vec![asked.reply().addr(60, "127.0.0.1").bytes()],
        })
        .await;
        let conf = server.conf(Families::Ipv4, 0);
        let impatient = conf.clone();
        let first = begun(async move { resolve(&impatient, "a", 80, 10).await });
        yield_now().await;
        assert_eq!(told(&conf, "a").await, "127.0.0.1:80");
        assert_eq!(first.await.expect("ended"), Err(ResolveError::TimedOut));
        assert_eq!(server.asked().len(), 3);
    });
}

#[test]
fn many_names_share_few_sockets() {
    run(async {
        let server = Server::new(|asked| match asked.before {
            0 => Vec::new(),
            _ => vec![asked.reply().addr(60, "127.0.0.1").bytes()],
        })
        .await;
        let conf = server.conf(Families::Ipv4, 0);
        let lookups = (0..200).map(|number| {
            let conf = conf.clone();
            begun(async move { told(&conf, &format!("n{number}")).await })
        });
        for lookup in lookups.collect::<Vec<_>>() {
            assert_eq!(lookup.await.expect("ended"), "127.0.0.1:80");
        }
        let seen = server.seen.borrow();
        let ports: HashSet<_> = seen.iter().map(|asked| asked.from_port).collect();
        let ids: HashSet<_> = seen.iter().map(|asked| asked.id).collect();
        assert!(seen.len() >= 400 && ids.len() > 150);
        assert!((4..=8).contains(&ports.len()), "{ports:?}");
    });
}

#[test]
fn ports_and_ids_change() {
    run(async {
        let server = Server::new(|asked| vec![asked.reply().addr(0, "127.0.0.1").bytes()]).await;
        let conf = server.conf(Families::Ipv4, 0);
        for _ in 0..20 {
            assert_eq!(told(&conf, "a").await, "127.0.0.1:80");
        }
        let seen = server.seen.borrow();
        let ports: HashSet<_> = seen.iter().map(|asked| asked.from_port).collect();
        let ids: HashSet<_> = seen.iter().map(|asked| asked.id).collect();
        assert!(ports.len() > 10 && ids.len() > 15, "{ports:?} {ids:?}");
    });
}

#[test]
fn services_have_their_targets_addresses() {
    run(async {
        let server = Server::new(|asked| {
            let reply = asked.reply();
            vec![match (&*asked.name, asked.number) {
                ("_http._tcp.example", SRV) => {
                    reply.srv(2, 1, 82, "b").srv(1, 5, 81, "a").srv(1, 0, 83, "gone").bytes()
                }
                ("_alias._tcp.example", SRV) => reply.cname(60, "_http._tcp.example").bytes(),
                ("_gone._tcp.example", SRV) => reply.srv(1, 1, 1, "gone").bytes(),
                ("a", A) => reply.addr(30, "127.0.0.1").addr(30, "127.0.0.2").bytes(),
                ("b", A) => reply.addr(90, "127.0.0.3").bytes(),
                _ => reply.flags(3).bytes(),
            }]
        })
        .await;
        let conf = server.conf(Families::Ipv4, 0);
        let told = async |service: &str| {
            let found = resolve_srv(&conf, service, "example", LONG_MS).await;
            found.map(|found| {
                let left_ms = found.valid_until_ms - timer::now_ms();
                assert!((29_000..=30_000).contains(&left_ms), "{left_ms}");
                let mut list: Vec<_> = found.servers.iter().collect();
                list.sort_by_key(|server| (server.priority, server.addr));
                let one = |s: &&ServiceAddr| format!("{} {} {} {}", s.addr, s.name, s.priority, s.weight);
                list.iter().map(one).collect::<Vec<_>>()
            })
        };
        let expected = ["127.0.0.1:81 a 1 5", "127.0.0.2:81 a 1 5", "127.0.0.3:82 b 2 1"].map(String::from);
        assert_eq!(told("http").await, Ok(expected.to_vec()));
        assert_eq!(told("_http._tcp").await, Ok(expected.to_vec()));
        assert_eq!(told("alias").await, Ok(expected.to_vec()));
        assert_eq!(told("gone").await, Err(ResolveError::NotFound));
        assert_eq!(told("none").await, Err(ResolveError::NotFound));
    });
}

#[test]
fn addresses_have_names() {
    run(async {
        let server = Server::new(|asked| {
            vec![match &*asked.name {
                "7.2.0.192.in-addr.arpa" => asked.reply().record(12, 60, b"\x03Www\x07example\0").bytes(),
                _ => asked.reply().flags(3).bytes(),
            }]
        })
        .await;
        let conf = server.conf(Families::Both, 0);
        let name = async |ip: &str| resolve_addr(&conf, ip.parse().expect(ip), LONG_MS).await;
        assert_eq!(name("192.0.2.7").await.as_deref(), Ok("www.example"));
        assert_eq!(name("192.0.2.7").await.as_deref(), Ok("www.example"));
        assert_eq!(server.asked().len(), 1);
        assert_eq!(name("::1").await, Err(ResolveError::NotFound));
    });
}

#[test]
fn resolvers_of_former_configurations_go() {
    run(async {
        let conf = |port: u16| conf_of(&[SocketAddr::from(([127, 0, 0, 1], port))], Families::Ipv4, 0);
        let old = Resolver::of_thread(&conf(1));
        old.used_ms.set(0);
        drop(Resolver::of_thread(&conf(2)));
        assert_eq!(RESOLVERS.with_borrow(HashMap::len), 2);
        drop(old);
        RESOLVERS.with_borrow(|resolvers| resolvers.values().for_each(|resolver| resolver.used_ms.set(0)));
        assert!(timer::now_ms() > IDLE_MS, "the clock of this machine began a minute ago");
        drop(Resolver::of_thread(&conf(3)));
        assert_eq!(RESOLVERS.with_borrow(HashMap::len), 1);
    });
}

#[test]
fn orders_are_turned_only_from_the_cache() {
    let ip = |text: &str| text.parse::<IpAddr>().expect(text);
    let (v4, v6) = ([ip("127.0.0.1"), ip("127.0.0.2"), ip("127.0.0.3")], [ip("::1"), ip("::2")]);
    let plain = in_order(&v4, &v6, Source::Query);
    assert_eq!(plain, [v4.as_slice(), v6.as_slice()].concat());
    let mut firsts = HashSet::new();
    for _ in 0..200 {
        let mut turned = in_order(&v4, &v6, Source::Cache);
        firsts.insert(turned[0]);
        turned.sort();
        let mut sorted = plain.clone();
        sorted.sort();
        assert_eq!(turned, sorted);
    }
    assert_eq!(firsts.len(), 5);
    assert!(in_order(&[], &[], Source::Cache).is_empty());
}
