//! Where `ip_hash`, `hash` and `hash consistent` place ten thousand keys: on the same servers as the installed nginx,
//! with weights, backups, and servers that fail.
//!
//! The servers are ports that answer with their number; a request that fails at one goes to the next.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use testkit::process::{Binary, Kind, Server};

const KEYS: usize = 10_000;
const SERVERS: usize = 5;
/// Clients that ask at the same time, each for its share of the keys.
const CLIENTS: usize = 8;

/// An origin that tells its number, or closes each connection without a word.
fn origin(number: usize, answers: bool) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, number, answers));
        }
    });
    port
}

fn serve(mut stream: TcpStream, number: usize, answers: bool) -> Option<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            head.extend_from_slice(&buffer[..count]);
        }
        head.clear();
        if !answers {
            return None;
        }
        // In one piece: small ones would wait for each other.
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

/// The server that each key led to, as letters.
fn placed(binary: &Binary, upstream: &str, ports: &[u16], listen: u16, root: &Path) -> String {
    let servers: String = ports
        .iter()
        .zip([" weight=3", "", " weight=2", "", ""])
        .map(|(port, more)| format!("server 127.0.0.1:{port}{more} max_fails=0;\n"))
        .collect();
    let conf = format!(
        "daemon off; error_log {root}/error.log crit; pid {root}/nginx.pid; events {{}}
        http {{
            access_log off; keepalive_requests 1000000;
            proxy_temp_path {root}/p; client_body_temp_path {root}/c; fastcgi_temp_path {root}/f;
            uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
            set_real_ip_from 127.0.0.0/8; real_ip_header X-Client;
            upstream u {{ {upstream} {servers} }}
            server {{
                listen 127.0.0.1:{listen};
                location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_next_upstream error; }}
            }}
        }}",
        root = root.display()
    );
    std::fs::write(root.join("nginx.conf"), conf).expect("a configuration");
    let server =
        Server::start(binary, root).unwrap_or_else(|error| panic!("{}: {error}", binary.path.display()));
    let shares: Vec<String> = thread::scope(|scope| {
        let each = KEYS / CLIENTS;
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| scope.spawn(move || ask(listen, n * each, (n + 1) * each))).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    drop(server);
    shares.concat()
}

fn ask(port: u16, from: usize, to: usize) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let mut seen = String::new();
    for key in from..to {
        let (a, b) = (key % 250, key / 250);
        let request = format!("GET /{key} HTTP/1.1\r\nHost: a\r\nX-Client: 10.{a}.{b}.{a}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        let end = loop {
            let count = stream.read(&mut buffer).expect("an answer");
            answer.extend_from_slice(&buffer[..count]);
            if let Some(end) = answer.windows(4).position(|end| end == b"\r\n\r\n")
                && answer.len() > end + 4
            {
                break end;
            }
            assert!(count > 0, "the server closed: {}", String::from_utf8_lossy(&answer));
        };
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        seen.push(char::from(answer[end + 4]));
    }
    seen
}

fn installed_nginx() -> Option<Binary> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let file = folders.map(|folder| folder.join("nginx")).find(|file| file.is_file())?;
    Command::new(&file).arg("-v").output().ok()?;
    Binary::probe(&file).ok().filter(|binary| binary.kind == Kind::Nginx)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port()
}

#[test]
fn keys_are_placed_as_nginx_places_them() {
    let Some(nginx) = installed_nginx() else {
        println!("skipped: nginx is not installed");
        return;
    };
    let ours = testkit::suite::built_binary().expect("a binary");
    let ours = Binary::probe(&ours.canonicalize().expect("a path")).expect("a binary");
    let root = std::env::temp_dir().join(format!("tgplacement{}", std::process::id()));
    let start = Instant::now();
    for failing in [None, Some(2)] {
        // The same ports for both, since they are part of what is hashed.
        let ports: Vec<u16> = (0..SERVERS).map(|number| origin(number, Some(number) != failing)).collect();
        for method in ["ip_hash;", "hash $request_uri;", "hash $request_uri consistent;"] {
            let placed_by = |binary: &Binary| {
                let _ = std::fs::remove_dir_all(&root);
                std::fs::create_dir_all(&root).expect("a folder");
                placed(binary, method, &ports, free_port(), &root)
            };
            let (theirs, own) = (placed_by(&nginx), placed_by(&ours));
            let differing = theirs.chars().zip(own.chars()).filter(|(a, b)| a != b).count();
            assert_eq!((differing, own.len()), (0, KEYS), "{method} with {failing:?} failing");
            let spread: Vec<usize> =
                ('0'..).take(SERVERS).map(|server| own.matches(server).count()).collect();
            println!("{method} with {failing:?} failing: {spread:?}, {} s", start.elapsed().as_secs());
        }
    }
    let _ = std::fs::remove_dir_all(&root);
}
