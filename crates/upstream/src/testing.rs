//! Groups written as lines, for the tests of this crate.
//!
//! A peer is called by the last digit of its port: `…:8081` is `a`, `…:8082` is `b`.

use std::sync::Arc;

use crate::{Accepts, Attempt, Group, Key, Now, Outcome, PeerAddr, Policy, Server, parse_server_params};

/// A group of `server` lines; the address `NAME=ADDR,ADDR` stands for a name that resolves to several.
pub(crate) fn group(policy: impl Into<Policy>, lines: &[&str]) -> Group {
    let servers: Vec<Server> = lines.iter().map(|line| server(line)).collect();
    Group::new("backend", &servers, policy).expect("servers")
}

/// A `server` line.
pub(crate) fn server(line: &str) -> Server {
    let words: Vec<&str> = line.split(' ').collect();
    let (name, addrs) = words[0].split_once('=').unwrap_or((words[0], words[0]));
    let addrs = addrs.split(',').map(|addr| PeerAddr::Inet(addr.parse().expect("address"))).collect();
    let spec = parse_server_params(&words[1..], Accepts::All).expect("parameters");
    Server::new(name, addrs, spec)
}

pub(crate) fn shared(policy: impl Into<Policy>, lines: &[&str]) -> Arc<Group> {
    Arc::new(group(policy, lines))
}

pub(crate) fn sec(sec: u64) -> Now {
    Now::from_ms((1_000_000 + sec) * 1000)
}

/// Picks; `-` where there is no peer.
pub(crate) fn pick(attempt: &mut Attempt, key: Key<'_>, now: Now) -> char {
    match attempt.pick(key, now) {
        Ok(_) => letter(attempt),
        Err(_) => '-',
    }
}

fn letter(attempt: &Attempt) -> char {
    let digit = attempt.peer().and_then(|peer| peer.name.bytes().last()).expect("held");
    char::from(b'a' + digit - b'1')
}

/// The peer of one request that goes well.
pub(crate) fn request(group: &Arc<Group>, key: Key<'_>, now: Now) -> char {
    let mut attempt = group.attempt();
    let peer = pick(&mut attempt, key, now);
    attempt.release(Outcome::Success, now);
    peer
}

/// The peers of that many requests one after the other.
pub(crate) fn requests(group: &Arc<Group>, count: usize, now: Now) -> String {
    (0..count).map(|_| request(group, Key::Nothing, now)).collect()
}

/// One request that fails at each peer until none is left.
pub(crate) fn fail_all(group: &Arc<Group>, key: Key<'_>, now: Now) -> String {
    let mut attempt = group.attempt();
    let mut tried = String::new();
    loop {
        tried.push(pick(&mut attempt, key, now));
        attempt.release(Outcome::Failure, now);
        if attempt.tries() == 0 || tried.ends_with('-') {
            return tried;
        }
    }
}
